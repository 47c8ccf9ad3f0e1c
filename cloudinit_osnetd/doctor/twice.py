# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Checks for NICs that two programs configure."""

import os
from typing import Dict, List, Set, Tuple

from ..backends.ifupdown import lock_holders
from ..cloud_init import instance
from ..cloud_init.eligibility import NotManaged, RunContext, run_context
from ..core.desired import Item, desired, names_of_bonds
from ..kernel import netlink
from ..state import store
from ..system import files, paths
from ..system.command import CommandError, run
from .result import Result, failed, ok, skipped, warning

_HOOK_RULES = ("10-cloud-init-hook-hotplug.rules", "90-cloud-init-hook-hotplug.rules")


def _items(on: RunContext) -> List[Item]:
    """Returns what each NIC should have."""
    state = store.load(on.instance_id)
    nics = netlink.snapshot().by_mac()
    named = names_of_bonds(state.bonds, state.truth, nics, on.context.bond_names)
    return [item for want in desired(state.truth, nics, on.context.settings.ignore, named) for item in want.items]


def other_files() -> List[Result]:
    """NICs that a file of other software configures as well, such as `allow-hotplug ens4` with DHCP in ifupdown's."""
    name = "other files"
    try:
        on = run_context(remember=False)
    except NotManaged as exc:
        return [skipped(name, str(exc))]
    items = _items(on)
    claimed = dict(on.backend.claimed(items))
    if on.backend.name == "ifupdown":
        claimed.update(_beside_cloud_inits({item.name for item in items}))
    results = []
    for nic, path in sorted(claimed.items()):
        advice = "remove %s from %s, or exclude it with osnetd: {ignore: [%s]}" % (nic, path, nic)
        results.append(failed(name, "%s is also configured by %s" % (nic, path), advice))
    return results or [ok(name, "no other file configures one of our NICs")]


def _beside_cloud_inits(names: Set[str]) -> Dict[str, str]:
    """Returns by NIC the other file of ifupdown's that has stanzas for it: ifup applies all of them, one by one."""
    from ..backends.eni import interfaces_file, sourced_files

    found = {}
    for path, text in sourced_files.sources().items():
        if not os.path.basename(path).startswith("50-cloud-init"):
            stanzas = interfaces_file.stanzas(text)
            found.update({one.owner: path for one in stanzas if one.words[:1] == ["iface"] and one.owner in names})
    return found


def two_managers() -> List[Result]:
    """NICs that NetworkManager and systemd-networkd both manage."""
    name = "two managers"
    nics = {str(nic.ifindex): nic.name for nic in netlink.snapshot().by_mac().values()}
    networkd = {nics[index] for index in nics if _says(paths.NETWORKD_LINKS, index, "ADMIN_STATE", _NETWORKD_STATES)}
    manager = {nics[index] for index in nics if _says(paths.NETWORKMANAGER_DEVICES, index, "managed", ("true", "full"))}
    both = sorted(networkd & manager)
    if both:
        advice = "leave them to one: `systemctl disable --now NetworkManager`, or its unmanaged-devices="
        return [failed(name, "NetworkManager and systemd-networkd both manage %s" % ", ".join(both), advice)]
    only = "NetworkManager" if manager else "systemd-networkd" if networkd else "neither"
    return [ok(name, "%s manages NICs" % only)]


_NETWORKD_STATES = ("configured", "configuring", "pending", "failed")


def _says(directory: str, index: str, key: str, values: Tuple[str, ...]) -> bool:
    text = files.read(os.path.join(directory, index)) or ""
    return any(line.strip() == "%s=%s" % (key, value) for line in text.splitlines() for value in values)


def dhcp_clients() -> List[Result]:
    """DHCP clients of NICs that have no lease to get, and several for one NIC."""
    name = "DHCP clients"
    try:
        on = run_context(remember=False)
    except NotManaged as exc:
        return [skipped(name, str(exc))]
    clients = lock_holders.clients([item.name for item in _items(on)])
    leased = {item.name for item in _items(on) if any("dhcp" in net.type for net in item.entry.networks)}
    results = []
    for nic, running in sorted(clients.items()):
        pids = ", ".join("%s (pid %d)" % (program, pid) for pid, program in sorted(running.items()))
        if nic not in leased or on.backend.name != "ifupdown":
            found = "%s runs for %s, which %s" % (pids, nic, _WHY[nic in leased])
            results.append(failed(name, found, "find out what started it, and end it: kill %s" % _pids(running)))
        elif len(running) > 2:
            results.append(failed(name, "%s run for %s" % (pids, nic), "ifdown --force %s; ifup %s" % (nic, nic)))
    return results or [ok(name, "none that is not needed")]


_WHY = {False: "has no DHCP", True: "gets its lease from systemd-networkd"}


def _pids(running: Dict[int, str]) -> str:
    return " ".join(str(pid) for pid in sorted(running))


def cloud_init_hotplug() -> List[Result]:
    """cloud-init's own hotplug: with our drop-in it queues our events; without, it configures the NIC beside us."""
    name = "hotplug"
    enabled = [os.path.join(top, rule) for top in paths.UDEV_RULES for rule in _HOOK_RULES]
    enabled = [path for path in enabled if os.path.isfile(path)]
    if not enabled:
        return [ok(name, "cloud-init's own hotplug is off")]
    if instance.datasource() not in ("ConfigDrive", "OpenStack"):
        return [skipped(name, "cloud-init's own, for another datasource")]
    try:
        told = run(["systemctl", "show", "cloud-init-hotplugd.service", "--property=ExecStart"], timeout=10.0)
    except CommandError as exc:
        return [warning(name, "%s is there, and %s" % (enabled[0], exc), "systemctl status cloud-init-hotplugd")]
    if "queue-event" in told:
        return [ok(name, "cloud-init's own is on, its events are ours")]
    found = "%s starts it, and our drop-in for cloud-init-hotplugd.service is not in force" % enabled[0]
    advice = "systemctl daemon-reload; see `systemctl cat cloud-init-hotplugd.service` for what replaces it"
    return [failed(name, found, advice)]
