# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A server as the cloud knows it: its ports, and what the metadata service tells it."""

from __future__ import annotations

import copy
import uuid
from typing import Any, Callable, Dict, List, Optional, Sequence

from tests.lab import documents, nova
from tests.lab.ports import Network, Port, Routes


class Server:
    """Made by Cloud.server(). A port is told by the metadata service from the moment it is created."""

    def __init__(
        self,
        name: str,
        on_change: Callable[[Network], None],
        user_data: Optional[str] = None,
        its_uuid: Optional[str] = None,
    ) -> None:
        self.name = name
        self.uuid = its_uuid or str(uuid.uuid4())
        self.user_data = user_data
        self.ports: List[Port] = []
        self._on_change = on_change
        self._frozen: Optional[Dict[str, Any]] = None
        # What a bare-metal node's driver makes of Nova's words: bonds, VLANs (nova/virt/ironic/driver.py).
        self.compose: Callable[[Dict[str, Any]], Dict[str, Any]] = lambda document: document

    def create_port(
        self, network: Network, mac: Optional[str] = None, fixed_ips: Optional[Sequence[str]] = None
    ) -> Port:
        """Attach a port. None: a random MAC, a random address of each subnet. No address at all: fixed_ips=[]."""
        port = Port(network, mac, fixed_ips)
        self.ports.append(port)
        self._on_change(network)
        return port

    def edit_port(
        self,
        port: Port,
        fixed_ips: Optional[Sequence[str]] = None,
        mtu: Optional[int] = None,
        routes: Optional[Routes] = None,
        dns: Optional[Sequence[str]] = None,
    ) -> None:
        """Change what the cloud has of a port; None leaves as it is. MTU, routes and DNS change for this port alone."""
        if fixed_ips is not None:
            port.fixed_ips = list(fixed_ips)
        if mtu is not None:
            port.mtu = mtu
        if routes is not None:
            port.routes = tuple(routes)
        if dns is not None:
            port.dns = tuple(dns)
        self._on_change(port.network)

    def delete_port(self, port: Port) -> None:
        """Take a port off the list. Its NIC stays until the guest's is unplugged."""
        self.ports.remove(port)
        self._on_change(port.network)

    def relist_port(self, port: Port) -> None:
        """Put a deleted port back on the list, as the last one."""
        self.ports.append(port)
        self._on_change(port.network)

    def network_data(self) -> Dict[str, Any]:
        """What Nova would serialise now."""
        return self.compose(nova.network_data([port.vif() for port in self.ports]))

    def told(self) -> Dict[str, Any]:
        """What the metadata service says: network_data(), unless it is frozen."""
        return self.network_data() if self._frozen is None else self._frozen

    def freeze_metadata(self) -> None:
        """Let the metadata service go on saying what it says now: a lagging cache."""
        self._frozen = copy.deepcopy(self.network_data())

    def thaw_metadata(self) -> None:
        self._frozen = None

    def state(self) -> Any:
        """All that the cloud has of its ports now, for restore()."""
        return [(port, copy.deepcopy({**vars(port), "network": None})) for port in self.ports], self._frozen

    def restore(self, state: Any) -> None:
        """Have the ports again that there were, as they were."""
        networks = {port.network for port in self.ports}
        ports, self._frozen = state
        for port, values in ports:
            vars(port).update({**values, "network": port.network})
        self.ports[:] = [port for port, _values in ports]
        for network in networks | {port.network for port in self.ports}:
            self._on_change(network)

    def files(self) -> documents.Files:
        """What the metadata service serves to this server."""
        local_ipv4 = next((ip for port in self.ports for ip in port.fixed_ips if "." in ip), "")
        return {
            **documents.openstack(self.uuid, self.name, self.told(), self.user_data),
            **documents.ec2(self.uuid, self.name, local_ipv4, self.user_data),
        }

    def drive_files(self) -> documents.Files:
        """The config drive that Nova would make now."""
        return documents.openstack(self.uuid, self.name, self.network_data(), self.user_data)
