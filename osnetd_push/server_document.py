# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The network_data.json of a server, from what Neutron says of its ports. Values in, values out.

It has the form of Nova's (nova/virt/netutils.py), and what Nova leaves out: each subnet and fixed IP of a port where
Nova has the first of each IP version, the MTU of a port with DHCP, the network's domain as search domain, a port
without any fixed IP. All objects are as in the body of Neutron's API.
"""

import ipaddress
from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Sequence

_STATEFUL = "dhcpv6-stateful"  # the other modes have the guest make its address by itself


class Cloud(NamedTuple):
    """What Neutron has.

    ports: of the server. networks, subnets: by id. served: ids of the subnets in which a DHCP server answers.
    """

    ports: Sequence[Mapping[str, Any]]
    networks: Mapping[str, Mapping[str, Any]]
    subnets: Mapping[str, Mapping[str, Any]]
    served: FrozenSet[str]


def document(cloud: Cloud, static: bool = False) -> Dict[str, Any]:
    """Returns the document.

    As Nova has it, a port's address in a subnet with a DHCP server is left to that server, if it is the only one
    there: of several, a server would give one, so all are static. static: every address is, whether or not there is a
    server, but for those that a guest makes from router advertisements. Raises KeyError, TypeError or ValueError for
    what is no answer of Neutron's.
    """
    made = {"links": [], "networks": [], "services": []}  # type: Dict[str, List[Any]]
    for port in cloud.ports:
        network = cloud.networks[port["network_id"]]
        link = _link(port, network)
        made["links"].append(link)
        named = [fixed["subnet_id"] for fixed in port["fixed_ips"]]
        for number, fixed in enumerate(port["fixed_ips"]):
            subnet = cloud.subnets[fixed["subnet_id"]]
            alone = not static and named.count(subnet["id"]) == 1
            entry = {"id": "network%d" % len(made["networks"]), "link": link["id"], "network_id": network["id"]}
            entry.update(_addressed(subnet, network, fixed["ip_address"], alone, subnet["id"] in cloud.served))
            if subnet["id"] in named[:number]:
                entry.update(routes=[], services=[])  # its first address has brought them
            made["networks"].append(entry)
            made["services"] += [one for one in entry.get("services", ()) if one not in made["services"]]
    return made


def _link(port: Mapping[str, Any], network: Mapping[str, Any]) -> Dict[str, Any]:
    return {
        "id": "tap" + port["id"][:11],
        "vif_id": port["id"],
        "type": "phy",
        "mtu": network.get("mtu") or None,
        "ethernet_mac_address": port["mac_address"],
    }


def _addressed(
    subnet: Mapping[str, Any], network: Mapping[str, Any], address: str, alone: bool, served: bool
) -> Dict[str, Any]:
    """Returns how the guest gets one address, and what comes with it. alone: the server may be left to give it."""
    mode, version = subnet.get("ipv6_address_mode") or "", subnet["ip_version"]
    if alone and served and not mode:
        return {"type": "ipv%d_dhcp" % version}
    kept = mode and (alone or mode != _STATEFUL)
    entry = {
        "type": "ipv6_" + mode if kept else "ipv%d" % version,
        "ip_address": address,
        "netmask": str(ipaddress.ip_network(subnet["cidr"]).netmask),
        "routes": _routes(subnet),
        "services": [{"type": "dns", "address": one} for one in subnet["dns_nameservers"]],
    }  # type: Dict[str, Any]
    domain = (network.get("dns_domain") or "").rstrip(".")
    if domain:
        entry["dns_search"] = [domain]
    return entry


def _routes(subnet: Mapping[str, Any]) -> List[Dict[str, str]]:
    """The default route first, as Nova has it. Neutron's own DHCP server lets a host route replace the gateway."""
    said = [(ipaddress.ip_network(one["destination"]), one["nexthop"]) for one in subnet["host_routes"]]
    default = ipaddress.ip_network("0.0.0.0/0" if subnet["ip_version"] == 4 else "::/0")
    if subnet["gateway_ip"] and default not in [destination for destination, _nexthop in said]:
        said.insert(0, (default, subnet["gateway_ip"]))
    return [
        {"network": str(to.network_address), "netmask": str(to.netmask), "gateway": nexthop} for to, nexthop in said
    ]
