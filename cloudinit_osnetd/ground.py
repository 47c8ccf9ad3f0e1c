# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Whether we work on this server at all, and what a run then stands on."""

from typing import NamedTuple

from . import context, source, store
from .backends import Backend, of_renderer


class Ground(NamedTuple):
    """What a run stands on."""

    instance_id: str
    context: context.Context
    backend: Backend


class HandsOff(Exception):
    """There is nothing for us to do on this server; the message says why."""


def ground(remember: bool = True) -> Ground:
    """Find out whether, and with what, we work here. Raises HandsOff.

    `remember` as in context.load.
    """
    instance_id = store.instance_id()
    if not instance_id:
        raise HandsOff("cloud-init has no instance here (disabled, or not run yet)")
    name = source.datasource()
    if name not in ("ConfigDrive", "OpenStack"):
        raise HandsOff("the datasource is %s, not OpenStack's" % (name or "unknown"))
    ctx = context.load(remember)
    if not ctx.settings.enabled:
        raise HandsOff("switched off (osnetd: {enabled: false})")
    if ctx.disabled_by:
        raise HandsOff("the network is " + ctx.disabled_by)
    backend = of_renderer(ctx.renderer)
    if backend is None:
        raise HandsOff("cloud-init's renderer %s is not supported" % ctx.renderer)
    return Ground(instance_id, ctx, backend)
