# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Each operation, done to the lab's cloud and to a guest in it."""

from __future__ import annotations

import json
import time
from typing import Any, Dict, List, Union

from tests.lab import VM, Cloud, Container, Network, Port
from tests.scenarios.package import install
from tests.scenarios.seen import NO_WIRED_CONNECTION
from tests.soak.operations import STEADY, Operation
from tests.soak.world import NETWORKS, World

QUEUE_EVENT = "/usr/lib/cloudinit-osnetd/queue-event"
# Shorter than in life, so that a timer is waited for in seconds.
SETTINGS = {"etc/cloud/cloud.cfg.d/92_osnetd-soak.cfg": "osnetd: {patience: 3, back_off: 8}\n", **NO_WIRED_CONNECTION}
_WHOM = {
    "all": "systemctl kill -s KILL cloudinit-osnetd.service",
    "main": "kill -9 $(systemctl show --value -p MainPID cloudinit-osnetd.service)",
    "run": "pkill -9 -f '[c]loudinit-osnetd reconcile --queue'",
}
_ANSWERS: Dict[str, Dict[str, Any]] = {
    "503": {"pattern": "/openstack/*", "status": 503, "body": b"busy"},
    "garbage": {"pattern": "*/network_data.json", "body": b'{"links": [{"id": "tap1", "ether'},
    "slow": {"pattern": "*", "delay": 1.0},
}


class Stage:
    """A cloud with the networks of world.py, one server, and its guest."""

    def __init__(self, cloud: Cloud, suite: str, backend: str, machine: str, world: World, trusted: bool) -> None:
        self.cloud = cloud
        self.networks: Dict[str, Network] = {
            name: cloud.network(name, mtu=mtu, subnets=list(subnets)) for name, (mtu, subnets) in NETWORKS.items()
        }
        self.server = cloud.server("soak")
        self.ports: Dict[str, Port] = {}
        for label in world.ports:
            self._create(world.ports[label]._asdict())
        self.guest: Union[Container, VM]
        if machine == "vm" or backend == "netplan":
            self.guest = VM(cloud, self.server, suite, backend, files=SETTINGS, slots=12)
        else:
            self.guest = Container(cloud, self.server, suite, backend, files=SETTINGS, trusted_cache=trusted)

    def do(self, operation: Operation) -> None:
        getattr(self, f"_{operation.kind}")(**operation.args)

    @property
    def steady(self) -> Port:
        return self.ports[STEADY]

    # Ports

    def _create(self, port: Dict[str, Any]) -> Port:
        ips = port["fixed_ips"] if "fixed_ips" in port else port["ips"]
        made = self.server.create_port(self.networks[port["network"]], mac=port["mac"], fixed_ips=list(ips))
        self.ports[port["label"]] = made
        return made

    def _attach(self, ports: List[Dict[str, Any]]) -> None:
        made = [self._create(port) for port in ports]
        self.guest.plug_all(made, [port["name"] for port in ports])

    def _detach(self, labels: List[str], how: str) -> None:
        ports = [self.ports[label] for label in labels]
        if how == "first":
            self._delete(ports)
        for port in ports:
            self.guest.unplug(port)
        if how == "nic":
            self._delete(ports)

    def _delete(self, ports: List[Port]) -> None:
        for port in ports:
            if port in self.server.ports:
                self.server.delete_port(port)

    def _unlist(self, label: str, via: str) -> None:
        self.server.delete_port(self.ports[label])
        self._look(via)

    def _relist(self, label: str, via: str) -> None:
        self.server.relist_port(self.ports[label])
        self._look(via)

    def _replug(self, label: str, name: str, pause: float) -> None:
        port = self.ports[label]
        if port in self.guest.plugged:
            self.guest.unplug(port)
        self._pause(pause)
        self.guest.plug(port, name)

    def _swap(self, labels: List[str]) -> None:
        ports = [self.ports[label] for label in labels]
        names = [self._name(port) for port in ports]
        for port in ports:
            self.guest.unplug(port)
        self.guest.plug_all(ports[::-1] if isinstance(self.guest, VM) else ports, names[::-1])

    def _name(self, port: Port) -> str:
        return "" if isinstance(self.guest, VM) else str(self.guest._nics[port][1])

    def _takeover(self, leaving: str, port: Dict[str, Any], pause: float) -> None:
        old = self.ports[leaving]
        self._delete([old])
        self.guest.unplug(old)
        self._pause(pause)
        self.guest.plug(self._create(port), port["name"])

    def _pause(self, seconds: float) -> None:
        if self.guest.is_on:
            time.sleep(seconds * (2 if isinstance(self.guest, VM) else 1))

    def _edit(self, label: str, fields: Dict[str, Any], via: str) -> None:
        self._change(label, fields)
        self._look(via)

    def _change(self, label: str, fields: Dict[str, Any]) -> None:
        words = {key: [tuple(one) for one in value] if key == "routes" else value for key, value in fields.items()}
        self.server.edit_port(self.ports[label], **words)

    def _subnet(self, network: str, fields: Dict[str, Any], via: str) -> None:
        self.cloud.edit_subnet(self.networks[network], **fields)
        self._look(via)

    # Who looks

    def _look(self, via: str) -> None:
        if via == "none" or not self.guest.is_on:
            return
        if via == "reconcile":
            self.reconcile()
        else:
            self.guest.run(f"{QUEUE_EVENT} {via}")

    def reconcile(self, *options: str) -> Dict[str, Any]:
        """By the operator; the record."""
        done = self.guest.run(f"cloudinit-osnetd reconcile --json {' '.join(options)}", check=False, timeout=300)
        return dict(json.loads(done.stdout))

    def _force(self) -> None:
        self.reconcile("--force")

    def _kill(self, label: str, fields: Dict[str, Any], after: float, whom: str) -> None:
        self._change(label, fields)
        self.guest.run(f"{QUEUE_EVENT} push; sleep {after}; {_WHOM[whom]}", check=False)

    # The operator

    def _drift(self, label: str, address: str) -> None:
        name = self.guest.nic(self.ports[label])
        # NetworkManager's profiles are followed where something was only added to them: one that says more is not.
        by_netplan = f"netplan set ethernets.{name}.addresses=[{address}] --origin-hint 50-cloud-init"
        one, length = address.split("/")
        edit = {
            "networkd": f"printf '\\n[Network]\\nAddress={address}\\n' >> /etc/systemd/network/10-cloud-init-{name}.network",
            "netplan": by_netplan,
            "netplan_nm": by_netplan,
            "nm": f"sed -i '/^.ipv4.$/a address99={address}\\nignore-auto-routes=true' '/etc/NetworkManager/system-connections/cloud-init-{name}.nmconnection'",
            "ifcfg": f"printf 'IPADDR99={one}\nPREFIX99={length}\nPEERROUTES=no\n' >> /etc/sysconfig/network-scripts/ifcfg-{name}",
            "ifupdown": f"sed -i '/^iface {name} inet static/a \\    up ip addr add {address} dev {name}' "
            "/etc/network/interfaces.d/50-cloud-init",
        }[self.guest.backend]
        self.guest.run(edit)

    def _address(self, label: str, address: str) -> None:
        self.guest.run(f"ip addr add {address} dev {self.guest.nic(self.ports[label])}")

    def _reinstall(self) -> None:
        install(self.guest)
        self.reconcile()

    def _stop(self) -> None:
        self.guest.run("systemctl stop cloudinit-osnetd.path")

    def _start(self) -> None:
        self.guest.run(f"systemctl start cloudinit-osnetd.path; {QUEUE_EVENT} push")

    # Faults

    def _fault(self, how: str) -> None:
        if how == "frozen":
            self.server.freeze_metadata()
        elif how in ("refuse", "drop"):
            self.cloud.metadata_down(how)
        else:
            self.cloud.override(**_ANSWERS[how])

    def _heal(self, via: str) -> None:
        self.server.thaw_metadata()
        self.cloud.metadata.clear_overrides()
        self.cloud.metadata_up()
        self._look(via)

    def _router(self, network: str, down: bool) -> None:
        (self.cloud.router_down if down else self.cloud.router_up)(self.networks[network])

    # Power

    def _off(self, hard: bool) -> None:
        self.guest.poweroff(hard=hard)

    def _boot(self) -> None:
        self.guest.boot()

    def _reboot(self, hard: bool) -> None:
        if hard:
            self.guest.poweroff(hard=True)
            self.guest.boot()
        else:
            self.guest.reboot()

    def _drive(self) -> None:
        self.guest.rebuild_drive()
