# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Makes cloud-init's network config from what is desired, at boot and on a running server.

The override gives cloud-init the result of this module, and later runs render the result of the same
module. So both write the same text for the same entry.
"""

import ipaddress
from typing import Any, Callable, Dict, Iterable, List, Set

from ..core.desired import Item, Want
from ..core.network_data import DEFAULT4, DEFAULT6, DHCP4, DHCP6, SLAAC, Network, Route

Convert = Callable[[Dict[str, Any], Dict[str, str]], Dict[str, Any]]


def _route(route: Route, metric: int) -> Dict[str, Any]:
    network = ipaddress.ip_network(route.network)
    out: Dict[str, Any] = {"network": str(network.network_address), "netmask": str(network.netmask)}
    if route.gateway:
        out["gateway"] = route.gateway
    if route.metric is not None:
        out["metric"] = route.metric
    elif metric:
        out["metric"] = metric
    return out


def _network(net: Network, link_id: str, metric: int) -> Dict[str, Any]:
    out: Dict[str, Any] = {"id": link_id, "link": link_id, "type": net.type}
    if net.address:
        address = ipaddress.ip_interface(net.address)
        out["ip_address"] = str(address.ip)
        out["netmask"] = str(address.network.netmask)
    if net.search:
        out["dns_search"] = list(net.search)
    out["routes"] = [_route(route, metric) for route in net.routes]
    return out


def _link(item: Item, ids: Dict[str, str]) -> Dict[str, Any]:
    entry = item.entry
    out: Dict[str, Any] = {"id": ids[item.key], "type": entry.kind, "mtu": entry.mtu}
    if entry.kind == "vlan":
        mac = entry.mac if entry.mac_told else None  # the kernel then uses the parent's MAC
        out.update(vlan_id=entry.vlan_id, vlan_mac_address=mac, vlan_link=ids[entry.parent])
        return out
    if entry.mac_told:
        out["ethernet_mac_address"] = entry.mac
    if entry.kind == "bond":
        out.update(entry.params)
        out.update(bond_links=[ids[key] for key in entry.members], name=item.name)
    return out


def network_json(want: Want) -> Dict[str, Any]:
    """Returns the network_data of these links alone, in the form that Nova writes."""
    ids = {item.key: "link%d" % i for i, item in enumerate(want.items)}
    return {
        "links": [_link(item, ids) for item in want.items],
        "networks": [
            _network(_renderable(net, item), ids[item.key], item.metric)
            for item in want.items
            for net in item.entry.networks
        ],
        "services": [],
    }


def _name(item: Item, config: Dict[str, Any], names: Dict[str, str]) -> None:
    config["name"] = item.name
    if item.entry.kind == "bond":
        config["bond_interfaces"] = [names[key] for key in item.entry.members]
    elif item.entry.kind == "vlan":
        config["vlan_link"] = names[item.entry.parent]


def _renderable(net: Network, item: Item) -> Network:
    """Removes the routes that no renderer may get: on-link routes, for which half of the renderers raise an error or
    write a route without a valid gateway (see Backend.finish), and routes via an address of this server itself."""
    return net._replace(routes=tuple(route for route in net.routes if route.gateway and route.gateway not in item.own))


def for_renderer(wants: Iterable[Want], renderer: Callable[[], str]) -> List[Want]:
    """Returns what cloud-init's renderer accepts; `renderer` returns its name and is called only if that matters.

    That of ifcfg files refuses a whole document if a NIC has two default routes of a family. It gets the first of them;
    see Backend.completed.
    """
    wants = list(wants)
    fewer = [want._replace(items=tuple(map(_with_one_default, want.items))) for want in wants]
    return fewer if fewer != wants and renderer() == "sysconfig" else wants


def _with_one_default(item: Item) -> Item:
    seen: Set[str] = set()
    networks = []
    for net in item.entry.networks:
        kept = []
        for route in net.routes:
            if route.network in (DEFAULT4, DEFAULT6) and route.gateway and route.gateway not in item.own:
                if route.network in seen:
                    continue
                seen.add(route.network)
            kept.append(route)
        # Its family is that of its address: by its type, both families would have a default route of IPv4.
        kind = "ipv6" if net.type == "ipv4" and ":" in net.address else net.type
        networks.append(net._replace(routes=tuple(kept), type=kind))
    return item._replace(entry=item.entry._replace(networks=tuple(networks)))


def supports_bond_names(convert: Convert) -> bool:
    """True if this cloud-init names a bond after its link: from 26.1 on, unless a distribution reverted that."""
    links = [
        {"id": "one", "type": "phy", "ethernet_mac_address": "00:00:5e:00:53:01"},
        {"id": "both", "type": "bond", "bond_links": ["one"], "name": "osnetd"},
    ]
    config = convert({"links": links, "networks": [], "services": []}, {"00:00:5e:00:53:01": "one"})["config"]
    return bool(config[1]["name"] == "osnetd")


def _finish(item: Item, config: Dict[str, Any], names: Dict[str, str]) -> Dict[str, Any]:
    """Sets names and DNS, which the releases of cloud-init convert differently.

    DNS goes to the subnets: before 23.2 cloud-init drops the DNS of a network and writes the global one
    to `lo` (eni) or to every NIC (networkd), so a new NIC would change the files of other NICs.
    """
    _name(item, config, names)
    if config.get("accept-ra") is False and any(net.type in SLAAC | DHCP6 for net in item.entry.networks):
        # cloud-init sets False for a static address, but another subnet of the port needs advertisements.
        config["accept-ra"] = True
    serving = next((net for net in item.entry.networks if net.address), None) or next(iter(item.entry.networks), None)
    for net, subnet in zip(item.entry.networks, config.get("subnets", [])):
        dns, search = list(net.servers), list(net.search)
        if net is serving:
            dns, search = list(item.dns) or dns, list(item.search) or search
        for field, values in (("dns_nameservers", dns), ("dns_search", search)):
            subnet.pop(field, None)
            if values:
                subnet[field] = values
        if item.metric and net.type in DHCP4:
            subnet["metric"] = item.metric  # for eni; for the other renderers see Backend.finish
        if item.metric and any(n.type in DHCP4 or n.type in DHCP6 for n in item.entry.networks):
            # For eni: udev brings the NIC up. With `auto` the boot would wait for its lease, which may
            # never come.
            subnet["control"] = "hotplug"
    return config


def items(want: Want, convert: Convert) -> List[Dict[str, Any]]:
    """Returns the items of a version 1 network config, one for each link, in the order of `want`."""
    names = {item.key: item.name for item in want.items}
    macs = {item.entry.mac: item.name for item in want.items if item.entry.kind == "phy"}
    converted = convert(network_json(want), macs)["config"]
    return [_finish(item, config, names) for item, config in zip(want.items, converted)]


def as_cloud_init_alone(want: Want, services: Iterable[str], convert: Convert) -> Dict[str, Any]:
    """Returns what cloud-init without the override makes of the same entries, to recognise files that it wrote.

    It includes the global DNS. The links keep their names, because cloud-init's name of a bond depends
    on the bonds before it, which are not part of `want`.
    """
    plain = want._replace(items=tuple(item._replace(metric=0) for item in want.items))
    ids = {item.key: "link%d" % i for i, item in enumerate(want.items)}
    names = {item.key: item.name for item in want.items}
    document: Dict[str, List[Any]] = {"links": [_link(item, ids) for item in plain.items], "networks": []}
    for item in plain.items:
        for net in item.entry.networks:
            dns = [{"type": "dns", "address": address} for address in net.dns]
            document["networks"].append(dict(_network(net, ids[item.key], 0), services=dns))
    document["services"] = [{"type": "dns", "address": address} for address in services]
    config = convert(document, {item.entry.mac: item.name for item in want.items if item.entry.kind == "phy"})
    for item, converted in zip(want.items, config["config"]):
        _name(item, converted, names)
    return config


def build(wants: Iterable[Want], convert: Convert) -> Dict[str, Any]:
    """Returns one version 1 network config for all of `wants`."""
    return {"version": 1, "config": [item for want in wants for item in items(want, convert)]}
