# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Whether we work on this server at all, and what a run then stands on."""

import os
from typing import Any, Dict, FrozenSet, NamedTuple, Optional, Sequence

from ..backends import Backend, of_renderer
from ..system import files, paths
from . import context, instance

_ALWAYS = frozenset(["operator", "push"])  # somebody asks
_BOOT = frozenset(["boot"])


class Ground(NamedTuple):
    """What a run stands on."""

    instance_id: str
    context: context.Context
    backend: Backend


class HandsOff(Exception):
    """There is nothing for us to do on this server; the message says why."""


def ground(remember: bool = True, moving: bool = False) -> Ground:
    """Find out whether, and with what, we work here. Raises HandsOff.

    `remember` and `moving` as in context.load.
    """
    if os.path.exists(paths.CLOUD_DISABLED):
        raise HandsOff("cloud-init is disabled by %s" % paths.CLOUD_DISABLED)
    if not os.path.exists(paths.CLOUD_RAN):
        raise HandsOff("cloud-init has not run at this boot (disabled, or no datasource)")
    instance_id = instance.instance_id()
    if not instance_id:
        raise HandsOff("cloud-init has no instance here")
    name = instance.datasource()
    if name not in ("ConfigDrive", "OpenStack"):
        raise HandsOff("the datasource is %s, not OpenStack's" % (name or "unknown"))
    ctx = context.load(remember, moving)
    if not ctx.settings.enabled:
        raise HandsOff("switched off (osnetd: {enabled: false})")
    if ctx.settings.unusable:
        raise HandsOff("the configuration cannot be made out: " + ctx.settings.unusable)
    if ctx.disabled_by:
        raise HandsOff("the network is " + ctx.disabled_by)
    backend = of_renderer(ctx.renderer)
    if backend is None:
        raise HandsOff("cloud-init's renderer %s is not supported" % ctx.renderer)
    unfit = backend.unfit()
    if unfit:
        raise HandsOff(unfit)
    return Ground(instance_id, ctx, backend)


# -- updates.network.when -------------------------------------------------------------------------


def _when(updates: Dict[str, Any]) -> Optional[FrozenSet[str]]:
    """The events at which cloud-init is told to update the network, None where it is told nothing."""
    network = updates.get("network")
    when = network.get("when") if isinstance(network, dict) else None
    if not isinstance(when, list):
        return None
    enabled = files.read_json(paths.HOTPLUG_ENABLED)  # by `cloud-init devel hotplug-hook enable`
    scopes = enabled.get("scopes") if isinstance(enabled, dict) else None
    by_command = ["hotplug"] if isinstance(scopes, list) and "network" in scopes else []
    return frozenset(str(event) for event in when + by_command)


def not_followed(updates: Dict[str, Any]) -> str:
    """Why NICs that come and go are left to others, empty where they are followed."""
    when = _when(updates)
    if when is None or "hotplug" in when:
        return ""
    return "updates.network.when is [%s]: without hotplug, %s" % (
        ", ".join(sorted(when)),
        "only boots are followed" if "boot" in when else "no event is followed",
    )


def permit(on: Ground, reasons: Sequence[str], new_instance: bool = False) -> None:
    """Raise HandsOff where `updates.network.when` speaks against all of `reasons`.

    With hotplug listed, or no list at all, everything is followed. With boot alone, boots are. With
    neither, a new instance's first boot is, which is what cloud-init does by itself. What an
    operator asks for is always done.
    """
    why_not = not_followed(on.context.updates)
    if not why_not or _ALWAYS & frozenset(reasons):
        return
    if _BOOT & frozenset(reasons) and (new_instance or "boot" in (_when(on.context.updates) or ())):
        return
    raise HandsOff(why_not)
