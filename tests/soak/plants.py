# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Faults put into a guest behind our back: each is what a broken package might leave, and the soak must find it."""

from __future__ import annotations

from typing import Dict, Tuple

from tests.soak.deeds import Stage
from tests.soak.runner import Plant

PART = {
    "networkd": "sed -i s/^Address=.*/Address=10.89.0.66\\\\/24/ /etc/systemd/network/10-cloud-init-{nic}.network",
    "ifupdown": "sed -i '/^iface {nic} /,/^$/s,address .*,address 10.89.0.66/24,' /etc/network/interfaces.d/50-cloud-init",
    "netplan": "netplan set ethernets.{nic}.mtu=1333 --origin-hint 50-cloud-init",
    "netplan_nm": "netplan set ethernets.{nic}.mtu=1333 --origin-hint 50-cloud-init",
    "nm": "sed -i s/^mtu=.*/mtu=1333/ /etc/NetworkManager/system-connections/cloud-init-{nic}.nmconnection",
    "ifcfg": "sed -i s/^MTU=.*/MTU=1333/ /etc/sysconfig/network-scripts/ifcfg-{nic}",
}
# name -> what is done, and what the soak says of it
_PLANTS: Dict[str, Tuple[str, str]] = {
    "address": ("ip addr add 10.89.0.66/24 dev {nic}", "address of nobody 10.89.0.66/24"),
    "mtu": ("ip link set {nic} mtu 1333", "MTU 1333, not 1450"),
    "route": ("ip route add 10.211.0.0/16 via 10.89.0.66 dev {nic}", "route of nobody to 10.211.0.0/16"),
    "default": ("ip route replace default via 10.90.0.1 dev ens3; ip route append default via 10.89.0.66 dev {nic}", "2 default routes"),
    "intent": ("echo '{{}}' > /var/lib/cloudinit-osnetd/intent.json", "left behind: /var/lib/cloudinit-osnetd/intent.json"),
    "temporary": ("touch /etc/cloud/.osnetd-half", "left behind: /etc/cloud/.osnetd-half"),
    "timer": ("systemd-run --quiet --unit=cloudinit-osnetd-look --on-active=3600 true", "is set, though nothing is pending"),
    "failed": ("systemd-run --quiet --unit=soak-fails false; sleep 0.5", "soak-fails.service failed"),
    "bounce": (
        "ip link set {nic} down; sleep 0.3; ip link set {nic} up; ip addr add 10.89.0.10/24 dev {nic} 2>/dev/null; sleep 0.3",
        "it has nothing to do with this, and lost",
    ),
}
NAMES = ("part", *_PLANTS)


def plant(name: str, at: int) -> Plant:
    """The fault of that name, on the steady NIC, at one step."""

    def planted(stage: Stage, number: int) -> None:
        if number == at:
            command = PART[stage.guest.backend] if name == "part" else _PLANTS[name][0]
            stage.guest.run(command.format(nic=stage.guest.nic(stage.steady)), check=False)

    return planted




def found(name: str) -> str:
    """Words of the finding."""
    return "its configuration on disk was changed" if name == "part" else _PLANTS[name][1]
