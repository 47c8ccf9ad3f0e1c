# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A server that is told by somebody else's network_data.json: word for word, whatever Nova would have said.

    server = cloud.server("metal")
    ports = foreign.tell(server, document, blue)    # on the metadata service and the next config drive
    guest = guest_factory(server)                   # its NICs have the document's MACs

Where the server has ports of its own, Nova's words of those and the document's stand in one document.
"""

from __future__ import annotations

from typing import Any, Dict, List, Set

from tests.lab.ports import Network, Port
from tests.lab.server import Server

Document = Dict[str, Any]


def tell(server: Server, document: Document, *networks: Network) -> List[Port]:
    """Have the cloud say `document` of this server, and give it a port for each MAC of the document's NICs.

    networks: what the NICs are plugged into, in the document's order; the last one takes all that follow. The ports
    have the addresses that the document says of them, or of the bond that they are members of.
    """
    ports = []
    for number, (mac, ids) in enumerate(_nics(document).items()):
        network = networks[min(number, len(networks) - 1)]
        ports.append(server.create_port(network, mac, _addresses(document, ids)))
    ours = {port.mac for port in ports}
    beside = server.compose

    def compose(nova: Document) -> Document:
        said = beside(nova)
        ids = {link["id"] for link in said.get("links", []) if link.get("ethernet_mac_address") in ours}
        links = [link for link in said.get("links", []) if link["id"] not in ids]
        if not links:
            return document
        own = [network for network in said["networks"] if network["link"] not in ids]
        return {
            "links": links + _list(document, "links"),
            "networks": own + _list(document, "networks"),
            "services": _services(own) + _list(document, "services"),
        }

    server.compose = compose
    return ports


def _nics(document: Document) -> Dict[str, Set[str]]:
    """The MACs of its physical links, and the ids by which a NIC's addresses are told: its own, its bond's."""
    found: Dict[str, Set[str]] = {}
    links = [link for link in _list(document, "links") if isinstance(link, dict)]
    for link in links:
        mac = link.get("ethernet_mac_address")
        if link.get("type") not in ("bond", "vlan") and isinstance(mac, str):
            bonds = {str(bond.get("id")) for bond in links if link.get("id") in (bond.get("bond_links") or [])}
            found.setdefault(mac.lower(), set()).update({str(link.get("id"))} | bonds)
    return found


def _addresses(document: Document, ids: Set[str]) -> List[str]:
    told = [network for network in _list(document, "networks") if str(network.get("link")) in ids]
    return [network["ip_address"].partition("/")[0] for network in told if network.get("ip_address")]


def _services(networks: List[Document]) -> List[Document]:
    """As Nova has them: each network's, once."""
    found: List[Document] = []
    for network in networks:
        found += [service for service in network.get("services", []) if service not in found]
    return found


def _list(document: Document, name: str) -> List[Any]:
    return list(document.get(name) or [])
