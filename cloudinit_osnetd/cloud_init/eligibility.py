# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Decides whether this server's network is managed, and collects what every run needs."""

import os
from typing import Any, Dict, FrozenSet, NamedTuple, Optional, Sequence

from ..backends import Backend, of_renderer
from ..system import files, paths
from . import context, instance

_ALWAYS = frozenset(["operator", "push", "rollback"])  # explicit requests
_BOOT = frozenset(["boot"])


class RunContext(NamedTuple):
    """The instance, the configuration and the backend of one run."""

    instance_id: str
    context: context.Context
    backend: Backend
    asks_openstack: bool = True  # False with another datasource: only what was pushed counts


class NotManaged(Exception):
    """The network of this server is not managed; the message gives the reason."""


def run_context(remember: bool = True, booting: bool = False, push: bool = False) -> RunContext:
    """Returns the context of a run on an eligible server; raises NotManaged on any other.

    `remember` and `booting` as in context.load. A `push` is carried out with any datasource: the host knows its guest;
    from then on so is every run, for what was pushed.
    """
    if os.path.exists(paths.CLOUD_DISABLED):
        raise NotManaged("cloud-init is disabled by %s" % paths.CLOUD_DISABLED)
    if not os.path.lexists(paths.CLOUD_RAN):
        if instance.is_off():
            raise NotManaged("cloud-init is disabled at this boot: it found no datasource, or was switched off")
        raise NotManaged("cloud-init has not run at this boot")
    instance_id = instance.instance_id()
    if not instance_id:
        raise NotManaged("cloud-init has no instance here")
    name = instance.datasource()
    openstack = name in ("ConfigDrive", "OpenStack")
    if not openstack and not push and not _is_pushed(instance_id):
        raise NotManaged("the datasource is %s, not OpenStack's" % (name or "unknown"))
    ctx = context.load(remember, booting)
    if not ctx.settings.enabled:
        raise NotManaged("switched off (osnetd: {enabled: false})")
    if ctx.settings.invalid:
        raise NotManaged("the configuration is invalid: " + ctx.settings.invalid)
    if ctx.disabled_by:
        raise NotManaged("the network is " + ctx.disabled_by)
    backend = of_renderer(ctx.renderer)
    if not ctx.renderer:
        raise NotManaged("cloud-init has no renderer here: see system_info: {network: {renderers: ...}}")
    if backend is None:
        raise NotManaged("cloud-init's renderer %s is not supported" % ctx.renderer)
    unfit = backend.unfit()
    if unfit:
        raise NotManaged(unfit)
    return RunContext(instance_id, ctx, backend, openstack)


def _is_pushed(instance_id: str) -> bool:
    """True if a push is in force, or waits for its confirmation."""
    from ..state import store

    state = store.load(instance_id)
    return bool(state.provisional) or any("push" in known.statements for known in state.truth.keys.values())


# -- updates.network.when -------------------------------------------------------------------------


def _when(updates: Dict[str, Any]) -> Optional[FrozenSet[str]]:
    """Returns the events at which cloud-init is to update the network, None if nothing is configured."""
    network = updates.get("network")
    when = network.get("when") if isinstance(network, dict) else None
    if not isinstance(when, list):
        return None
    enabled = files.read_json(paths.HOTPLUG_ENABLED)  # written by `cloud-init devel hotplug-hook enable`
    scopes = enabled.get("scopes") if isinstance(enabled, dict) else None
    by_command = ["hotplug"] if isinstance(scopes, list) and "network" in scopes else []
    return frozenset(str(event) for event in when + by_command)


def not_followed(updates: Dict[str, Any]) -> str:
    """Returns why hotplugged and removed NICs are not followed, empty if they are."""
    when = _when(updates)
    if when is None or "hotplug" in when:
        return ""
    return "updates.network.when is [%s]: without hotplug, %s" % (
        ", ".join(sorted(when)),
        "only boots are followed" if "boot" in when else "no event is followed",
    )


def permit(on: RunContext, reasons: Sequence[str], new_instance: bool = False) -> None:
    """Raises NotManaged if `updates.network.when` excludes all of `reasons`.

    With hotplug in the list, or without a list, every event is followed; with boot alone, only boots
    are. With neither, only the first boot of a new instance is, as cloud-init itself does. An
    operator's request is always carried out.
    """
    why_not = not_followed(on.context.updates)
    if not why_not or _ALWAYS & frozenset(reasons):
        return
    if _BOOT & frozenset(reasons) and (new_instance or "boot" in (_when(on.context.updates) or ())):
        return
    raise NotManaged(why_not)
