# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""conformance: what the kernel lacks is a problem, what depends on others is a finding."""

import pytest

from cloudinit_osnetd.core import desired, plan, truth
from cloudinit_osnetd.core.conformance import CONFORMS, check
from cloudinit_osnetd.core.desired import Item
from cloudinit_osnetd.core.records import Address, Route

from .build import A, B, C, bond, data, dhcp, document, entry, link, nic, snapshot, static, vlan

ADDRESS = "10.0.0.5/24"
DEFAULT = {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}
DEFAULT6 = {"network": "::", "netmask": "::", "gateway": "2001:db8::1"}


def item(*networks, metric=0, **link):
    one = entry(*networks, **link)
    return Item(one.key, one, "ens3", (), metric)


def default(gateway="10.0.0.1", metric=0, index=2):
    return Route("0.0.0.0/0", gateway, index, metric)


def verdict(wanted, *routes, plain=False, **fields):
    fields.setdefault("addresses", [ADDRESS])
    return check(wanted, snapshot(nic("ens3", A, 2, **fields), routes=routes), plain)


def held(address, **fields):
    return Address(address, fields.get("tentative", False), True, fields.get("duplicate", False))


def test_a_nic_that_somebody_has_put_into_a_bridge_lacks_nothing():
    """Its addresses are the bridge's now."""
    shot = snapshot(nic("ens3", A, 2, [], master=7), nic("br-ex", A, 7, [ADDRESS]))
    said = check(item(static(routes=[DEFAULT])), shot)
    assert said.problems == () and said.findings[0] == "it belongs to br-ex"
    assert "the kernel lacks 10.0.0.5/24" in said.findings


# -- problems -------------------------------------------------------------------------------------------------


def test_a_nic_that_has_it_all():
    wanted = item(static(routes=[DEFAULT]), mtu=1400)
    assert verdict(wanted, default(), mtu=1400) == CONFORMS


def test_a_nic_that_is_not_there_lacks_nothing():
    assert check(item(static()), snapshot()) == CONFORMS


@pytest.mark.parametrize(
    ("wanted", "routes", "fields", "lacks"),
    [
        (item(static()), [], {"addresses": []}, "the kernel lacks 10.0.0.5/24"),
        (item(static()), [], {"addresses": ["10.0.0.5/32"]}, "the kernel lacks 10.0.0.5/24"),
        (item(static()), [], {"up": False}, "the link is down"),
        (item(static(), mtu=1400), [], {}, "the MTU is 1500, not 1400"),
        (item(static(routes=[DEFAULT])), [], {}, "the kernel lacks the route 0.0.0.0/0 via 10.0.0.1"),
        (
            item(static(routes=[DEFAULT])),
            [default("10.0.0.9")],
            {},
            "the kernel lacks the route 0.0.0.0/0 via 10.0.0.1",
        ),
        (item(static(routes=[DEFAULT])), [default(index=3)], {}, "the kernel lacks the route 0.0.0.0/0 via 10.0.0.1"),
        (
            item(static(routes=[DEFAULT]), metric=2100),
            [default()],
            {},
            "the kernel lacks the route 0.0.0.0/0 via 10.0.0.1 metric 2100",
        ),
        (
            item(static(routes=[dict(DEFAULT, metric=7)]), metric=2100),
            [default(metric=2100)],
            {},
            "the kernel lacks the route 0.0.0.0/0 via 10.0.0.1 metric 7",
        ),
        (
            item(static(), mtu=1400),
            [],
            {"addresses": []},
            "the kernel lacks 10.0.0.5/24; the MTU is 1500, not 1400",
        ),
    ],
)
def test_what_a_backend_must_have_done_is_a_problem(wanted, routes, fields, lacks):
    assert verdict(wanted, *routes, **fields).lacks == lacks


def test_an_address_that_another_host_has_is_a_problem():
    said = verdict(item(static("2001:db8::5", "ffff:ffff:ffff:ffff::")), addresses=[]).problems
    assert said == ("the kernel lacks 2001:db8::5/64",)
    there = nic("ens3", A)._replace(addresses=(held("2001:db8::5/64", tentative=True, duplicate=True),))
    said = check(item(static("2001:db8::5", "ffff:ffff:ffff:ffff::")), snapshot(there))
    assert (said.problems, said.findings) == (("another host has 2001:db8::5/64 too",), ())


@pytest.mark.parametrize(("metric", "there"), [(0, 0), (0, 1024), (2100, 2100)])
def test_a_metric_is_looked_at_where_we_gave_one(metric, there):
    assert verdict(item(static(routes=[DEFAULT]), metric=metric), default(metric=there)) == CONFORMS


@pytest.mark.parametrize("gateway", [None, "0.0.0.0"])
def test_a_route_without_a_gateway(gateway):
    wanted = item(static(routes=[dict(DEFAULT, network="10.8.0.0", netmask="255.255.0.0", gateway=gateway)]))
    assert verdict(wanted, Route("10.8.0.0/16", "", 2, 0)) == CONFORMS
    assert verdict(wanted).lacks == "the kernel lacks the route 10.8.0.0/16"


def test_a_port_without_networks_may_be_down_and_its_mtu_counts_unless_a_bond_has_it():
    assert verdict(item(), up=False) == CONFORMS
    assert verdict(item(mtu=1400)).lacks == "the MTU is 1500, not 1400"
    assert verdict(item(mtu=1400), master=7) == CONFORMS


# -- findings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "addresses", "findings"),
    [
        (item(dhcp()), ["fe80::1/64"], ("no DHCP lease yet",)),
        (item(dhcp(), static()), [ADDRESS], ("no DHCP lease yet",)),
        (item(dhcp()), ["10.0.0.77/24"], ()),
        (
            item(dhcp(type="ipv6_slaac")),
            ["fe80::1/64", "10.0.0.77/24"],
            ("no IPv6 address by advertisement or DHCPv6 yet",),
        ),
        (item(dhcp(type="ipv6_dhcpv6-stateful")), ["2001:db8::9/128"], ()),
    ],
)
def test_what_a_lease_or_an_advertisement_brings_is_a_finding(wanted, addresses, findings):
    said = verdict(wanted, addresses=addresses)
    assert (said.problems, said.findings, said.leased) == ((), findings, not findings)


@pytest.mark.parametrize(
    ("name", "fields", "why"),
    [
        ("ens3", {"max_mtu": 1450}, "the device takes 1450 at the most"),
        ("ens2.7", {"kind": "vlan", "max_mtu": 65535}, "ens2 has 1500"),
    ],
)
def test_an_mtu_that_the_kernel_refuses_is_a_finding_that_says_why(name, fields, why):
    """To bring the NIC up again would not help."""
    one = item(static(), mtu=8950)._replace(name=name)
    shot = snapshot(nic("ens2", B, 1), nic(name, A, 2, [ADDRESS], **fields))
    assert check(one, shot)[:2] == ((), ("the MTU is 1500, not 8950: " + why,))


@pytest.mark.parametrize("max_mtu", [0, 9000])
def test_an_mtu_that_nothing_speaks_against_is_a_problem(max_mtu):
    assert verdict(item(static(), mtu=8950), max_mtu=max_mtu).lacks == "the MTU is 1500, not 8950"


def test_the_mtu_of_a_leased_nic_is_a_finding():
    said = verdict(item(dhcp(), mtu=1400), addresses=["10.0.0.77/24"])
    assert (said.problems, said.findings) == ((), ("the MTU is 1500, not 1400",))


def test_the_route_of_an_advertised_network_is_a_finding_where_nothing_stands_in_its_place():
    wanted = item(dhcp(type="ipv6_slaac", routes=[DEFAULT6]))
    there = ["2001:db8::9/64"]
    assert verdict(wanted, addresses=there).findings == ("no route ::/0 via 2001:db8::1",)
    assert verdict(wanted, Route("::/0", "fe80::1", 2, 1024), addresses=there) == CONFORMS


def test_where_ipv6_is_switched_off_what_it_cannot_have_is_a_finding():
    """It would be brought up again for that at each boot, IPv4 and all."""
    six = static("2001:db8::5", "ffff:ffff:ffff:ffff::", routes=[DEFAULT6])
    wanted = item(static(routes=[DEFAULT]), six)
    there = nic("ens3", A, 2, [ADDRESS])
    said = check(wanted, snapshot(there, routes=[default()]))
    assert said.problems == ("the kernel lacks 2001:db8::5/64", "the kernel lacks the route ::/0 via 2001:db8::1")
    said = check(wanted, snapshot(there._replace(ipv6=False), routes=[default()]))
    assert said.problems == ()
    assert said.findings == ("IPv6 is switched off: no 2001:db8::5/64", "no route ::/0 via 2001:db8::1")
    assert check(wanted, snapshot(there._replace(ipv6=False))).problems == ("the kernel lacks the route 0.0.0.0/0 via 10.0.0.1",)


def test_duplicate_address_detection_under_way_is_a_finding():
    there = nic("ens3", A)._replace(addresses=(held("2001:db8::5/64", tentative=True),))
    said = check(item(static("2001:db8::5", "ffff:ffff:ffff:ffff::")), snapshot(there))
    assert (said.problems, said.findings) == ((), ("DAD of 2001:db8::5/64 is under way",))


def test_without_a_carrier_the_backend_is_not_to_blame():
    said = verdict(item(static(routes=[DEFAULT])), addresses=[], carrier=False)
    assert said.problems == ()
    assert said.findings[:2] == ("there is no carrier", "the kernel lacks 10.0.0.5/24")
    assert not said.carrier


def test_two_subnets_with_a_gateway_each_have_one_default_route():
    wanted = item(static(routes=[DEFAULT]), static("10.1.0.5", routes=[dict(DEFAULT, gateway="10.1.0.1")]))
    both = [ADDRESS, "10.1.0.5/24"]
    said = verdict(wanted, default(), addresses=both)
    assert (said.problems, said.findings) == ((), ("no route 0.0.0.0/0 via 10.1.0.1",))
    assert len(verdict(wanted, addresses=both).problems) == 1


@pytest.mark.parametrize(
    ("network", "netmask", "gateway", "metric", "other", "by"),
    [
        ("169.254.169.254", "255.255.255.255", "10.0.0.2", None, ("169.254.169.254/32", 0), True),
        ("10.8.0.0", "255.255.0.0", "10.0.0.2", None, ("10.8.0.0/16", 0), True),
        ("10.8.0.0", "255.255.0.0", None, None, ("10.8.0.0/16", 0), True),
        ("10.8.0.0", "255.255.0.0", "10.0.0.2", 7, ("10.8.0.0/16", 7), True),
        ("2001:db8:9::", "ffff:ffff:ffff::", "2001:db8::1", None, ("2001:db8:9::/48", 1024), True),
        # None of these is in its way.
        ("10.8.0.0", "255.255.0.0", "10.0.0.2", None, ("10.8.0.0/16", 2100), False),
        ("10.8.0.0", "255.255.0.0", "10.0.0.2", 7, ("10.8.0.0/16", 0), False),
        ("10.8.0.0", "255.255.0.0", "10.0.0.2", None, ("10.8.0.0/24", 0), False),
        ("0.0.0.0", "0.0.0.0", "10.0.0.1", None, ("0.0.0.0/0", 0), False),
    ],
)
def test_a_route_that_the_kernel_has_by_another_nic_is_a_finding(network, netmask, gateway, metric, other, by):
    route = {"network": network, "netmask": netmask, "gateway": gateway, "metric": metric}
    six = ":" in network
    wanted = item(static("2001:db8::5", "ffff:ffff:ffff:ffff::", routes=[route]) if six else static(routes=[route]))
    there = Route(other[0], "2001:db8:1::1" if six else "10.1.0.1", 3, other[1])
    addresses = ("2001:db8::5/64",) if six else ("10.0.0.5/24",)
    shot = snapshot(nic("ens3", A, 2, addresses), nic("ens4", B, 3), routes=[there])
    said = check(wanted, shot)
    assert bool(said.findings) is by and bool(said.problems) is not by
    if by:
        assert "the kernel has it by ens4" in said.findings[0]


def test_two_routes_of_one_nic_to_one_network_are_one_of_the_two():
    first, second = ({"network": "10.8.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.%d" % n} for n in (1, 2))
    said = verdict(item(static(routes=[first, second])), Route("10.8.0.0/16", "10.0.0.1", 2, 0))
    assert (said.problems, said.findings) == ((), ("no route 10.8.0.0/16 via 10.0.0.2",))


def test_what_cloud_init_wrote_by_itself_has_no_metrics_and_may_have_lost_a_route_to_another_nic():
    wanted = item(static(routes=[DEFAULT]), metric=2100)
    assert verdict(wanted, default(), plain=True) == CONFORMS
    said = verdict(wanted, default(index=3), plain=True)
    assert (said.problems, said.findings) == ((), ("no route 0.0.0.0/0 via 10.0.0.1",))


# -- what a backend makes ------------------------------------------------------------------------------------------

BONDED = document(
    [link(), link(B, "tap2"), bond(), vlan(C, vlan_id=7, parent="bond1"), vlan(id="vlan2", vlan_id=8)],
    [static(link="bond1"), static("10.7.0.5", link="vlan1"), static("10.8.0.5", link="vlan2")],
)
ONE, OTHER = nic("ens3"), nic("ens4", B, 3)
BOND = nic("bond0", C, 4, ["10.0.0.5/24"], virtual=True, kind="bond")


def named(kind, name, members=2):
    """The item of a bond or a VLAN of BONDED, under this name; of a bond's members so many are wanted."""
    entries = data(BONDED).entries
    (found,) = [e for e in entries.values() if e.kind == kind and (kind == "bond" or name.endswith(".%d" % e.vlan_id))]
    return Item(found.key, found._replace(members=found.members[:members]), name, ())


@pytest.mark.parametrize(
    ("what", "there", "lacks"),
    [
        (("bond", "bond0"), [ONE, OTHER], "bond0 does not exist"),
        (("bond", "bond0"), [ONE], "bond0 does not exist"),
        (("bond", "bond0"), [], ""),  # the members are gone, or on their way
        (("bond", "bond0"), [ONE, OTHER, BOND], ""),
        (("bond", "bond0", 1), [OTHER], ""),
        (("vlan", "ens3.8"), [ONE], "ens3.8 does not exist"),
        (("vlan", "ens3.8"), [OTHER], ""),
        (("vlan", "bond0.7"), [ONE, OTHER, BOND], "bond0.7 does not exist"),
        (("vlan", "bond0.7"), [ONE, OTHER], ""),  # the bond is what is lacking, and said to be
        (("vlan", "a-long-name.7"), [ONE, OTHER], ""),
    ],
)
def test_a_bond_or_a_vlan_does_not_exist(what, there, lacks):
    assert check(named(*what), snapshot(*there)).lacks == lacks


@pytest.mark.parametrize(
    ("masters", "said"),
    [
        ((4, 4), ()),
        ((4, 0), ("not a member of it: ens4",)),
        ((7, 0), ("not a member of it: ens3, ens4",)),  # one of another's bridge
        ((4, None), ()),  # not here
    ],
)
def test_a_nic_that_is_here_and_not_in_its_bond_is_told_and_nothing_is_done(masters, said):
    members = [one._replace(master=master) for one, master in zip((ONE, OTHER), masters) if master is not None]
    result = check(named("bond", "bond0"), snapshot(*members, BOND))
    assert (result.problems, result.findings) == ((), said)


def test_a_nic_that_is_not_here_lacks_nothing():
    assert check(item(static()), snapshot(OTHER)) == CONFORMS


def test_with_a_bond_that_does_not_exist_its_members_are_brought_up_and_no_other_nic():
    """Nobody is its member any more; the parent of a VLAN that does not exist lacks nothing."""
    nics = {one.mac: one for one in (ONE, OTHER)}
    (wants,) = desired.desired(truth.observe(truth.EMPTY, "metadata", data(BONDED), 0.0), nics)
    there = snapshot(ONE, OTHER)
    assert [(one.name, one.ifindex, one.lacks) for one in plan.lacks([wants], (), there)] == [
        ("bond0", 0, "bond0 does not exist"),
        ("ens3", ONE.ifindex, "bond0 does not exist"),
        ("ens4", OTHER.ifindex, "bond0 does not exist"),
        ("ens3.8", 0, "ens3.8 does not exist"),
    ]
    enslaved = snapshot(ONE._replace(master=4), OTHER._replace(master=4), BOND)
    assert sorted(one.name for one in plan.lacks([wants], (), enslaved)) == ["bond0.7", "ens3.8"]
