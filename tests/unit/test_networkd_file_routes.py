# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""file_routes: one section per route, and gateways that are marked on-link."""

import pytest

from cloudinit_osnetd.backends.networkd import file_routes
from cloudinit_osnetd.core.desired import Item

from .build import entry, static

HEAD = "[Match]\nName=ens3\n\n[Network]\nDHCP=no\n\n"
DUAL = (
    static(routes=[{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}]),
    static("2001:db8::5", "ffff:ffff:ffff:ffff::", routes=[{"network": "::", "netmask": "::", "gateway": "2001:db8::1"}]),
)
# As cloud-init 22.4 writes both routes.
ONE = "[Route]\nDestination=0.0.0.0/0\nDestination=::/0\nGateway=10.0.0.1\nGateway=2001:db8::1\n\n"
EACH = "[Route]\nDestination=0.0.0.0/0\nGateway=10.0.0.1\n\n[Route]\nDestination=::/0\nGateway=2001:db8::1\nGatewayOnLink=yes\n"


def finished(text, *networks, metric=0):
    one = entry(*networks)
    return file_routes.finished(text, Item(one.key, one, "ens3", (), metric))


def test_routes_in_one_section_get_one_each():
    assert finished(HEAD + ONE, *DUAL) == HEAD + EACH


def test_the_metric_of_a_later_nic_is_in_each():
    text = finished(HEAD + ONE.replace("\n\n", "\nMetric=2100\n\n"), *DUAL, metric=2100)
    assert text.count("Metric=2100\n") == text.count("[Route]") == 2


def test_two_host_routes_by_one_gateway_and_one_on_the_link():
    routes = [
        {"network": "172.16.0.0", "netmask": "255.240.0.0", "gateway": "10.0.0.9"},
        {"network": "192.168.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.9"},
        {"network": "198.51.100.0", "netmask": "255.255.255.0"},
    ]
    one = "[Route]\nDestination=172.16.0.0/12\nDestination=192.168.0.0/16\nDestination=198.51.100.0/24\nGateway=10.0.0.9\n"
    text = finished(HEAD + one + "\n[DHCPv4]\nUseMTU=yes\n", static(routes=routes))
    assert text == HEAD + "[DHCPv4]\nUseMTU=yes\n\n" + (
        "[Route]\nDestination=172.16.0.0/12\nGateway=10.0.0.9\n\n"
        "[Route]\nDestination=192.168.0.0/16\nGateway=10.0.0.9\n\n"
        "[Route]\nDestination=198.51.100.0/24\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        HEAD + "[Route]\nDestination=0.0.0.0/0\nGateway=10.0.0.1\n",
        HEAD + EACH,
        HEAD + "[Route]\nGateway=fe80::1\n",
        HEAD + "[Route]\nGateway=2001:db8::99\n",
    ],
)
def test_what_is_well_said_stays(text):
    assert finished(text, *DUAL) == text


def test_a_global_ipv6_gateway_is_said_to_be_a_neighbour_and_a_link_local_one_is_not():
    local = static("2001:db8::5", "ffff:ffff:ffff:ffff::", routes=[{"network": "::", "netmask": "::", "gateway": "fe80::1"}])
    assert file_routes.on_link(Item("k", entry(local), "ens3", ())) == frozenset()
    assert file_routes.on_link(Item("k", entry(*DUAL), "ens3", ())) == {"2001:db8::1"}


SLAAC = {
    "id": "n",
    "link": "tap1",
    "type": "ipv6_slaac",
    "routes": [
        {"network": "::", "netmask": "::", "gateway": "fd00:98::1"},
        {"network": "2001:db8:9::", "netmask": "ffff:ffff:ffff::", "gateway": "fd00:98::9"},
    ],
}
TOLD = "[Route]\nDestination=::/0\nGateway=fd00:98::1\n"
HOST = "[Route]\nDestination=2001:db8:9::/48\nGateway=fd00:98::9\n"


def test_the_default_route_of_an_advertised_subnet_is_left_to_the_router():
    assert finished(HEAD + TOLD + "\n" + HOST, SLAAC) == HEAD + HOST + "GatewayOnLink=no\n"


def test_not_where_a_static_subnet_of_the_port_holds_the_gateway():
    static6 = static("fd00:98::5", "ffff:ffff:ffff:ffff::")
    assert TOLD in finished(HEAD + TOLD, SLAAC, static6)


def test_nor_one_by_a_link_local_gateway():
    link_local = dict(SLAAC, routes=[dict(SLAAC["routes"][0], gateway="fe80::1")])
    told = TOLD.replace("fd00:98::1", "fe80::1")
    assert finished(HEAD + told, link_local) == HEAD + told
