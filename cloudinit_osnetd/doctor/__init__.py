# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Checks of what goes wrong in the field, each with what to do about it. Reads only."""

from typing import Callable, List, Tuple

from . import boot, guest_agent, metadata_service, security, twice, units
from .result import Result, failed

# In this order: what must work first comes first.
CHECKS: Tuple[Tuple[str, Callable[[], List[Result]]], ...] = (
    ("managed", boot.managed),
    ("drop-in", boot.drop_in),
    ("datasource", boot.datasource_class),
    ("instance", boot.instance_of_caches),
    ("units", units.units),
    ("udev rule", units.udev_rule),
    ("queue", units.queue),
    ("metadata", metadata_service.metadata),
    ("other files", twice.other_files),
    ("two managers", twice.two_managers),
    ("DHCP clients", twice.dhcp_clients),
    ("hotplug", twice.cloud_init_hotplug),
    ("guest agent", guest_agent.guest_agent),
    ("SELinux", security.selinux),
    ("clock", security.clock),
)


def examine() -> List[Result]:
    """Returns the results of all checks. A check that cannot be made counts as failed."""
    results: List[Result] = []
    for name, check in CHECKS:
        try:
            results += check()
        except Exception as exc:  # noqa: BLE001 - the other checks are still worth making
            results.append(failed(name, "the check ended with %r" % exc, "report this, with `doctor --bundle`"))
    return results
