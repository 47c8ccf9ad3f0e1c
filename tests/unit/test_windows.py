# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What is pure in the Windows part. tests/windows runs all of it on a Windows Python."""

import io
import json
import os
import sys
from types import SimpleNamespace

import pytest

from cloudinit_osnetd.core import desired, network_data, truth
from cloudinit_osnetd.core.records import Address, Nic, Route, Snapshot

pytest.importorskip("cloudinit_osnetd.windows", reason="no package for Linux has it, and debian/tests/unit tests those")
from cloudinit_osnetd.windows import cli, config, difference, install, iphelper, netsh
from cloudinit_osnetd.windows import state as windows_state
from cloudinit_osnetd.windows.difference import Owned
from cloudinit_osnetd.windows.state import Link, State

MAC = "fa:16:3e:00:00:01"
DEFAULTS = ["cloudbaseinit.plugins.a.A", "cloudbaseinit.plugins.b.B"]


def item(*networks, **more):
    link = dict({"id": "tap", "ethernet_mac_address": MAC, "type": "ovs", "mtu": 1450}, **more)
    services = link.pop("services", [])
    document = {"links": [link], "networks": [dict(net, link="tap") for net in networks], "services": services}
    known = truth.observe(truth.EMPTY, "push", network_data.parse(document), 0.0)
    (want,) = desired.desired(known, {MAC: nic()})
    return want.items[0]


def nic(*addresses, mtu=1450, ipv6=True, max_mtu=0):
    have = tuple(Address(one, False, True) for one in addresses)
    return Nic("Ethernet 2", 7, MAC, MAC, mtu, True, True, 0, False, "", have, ipv6, max_mtu)


def state(one, routes=(), search=(), domain="", **link):
    link = Link("{GUID}", **dict({"dhcp4": False}, **link))
    found = [Route(network, gateway, one.ifindex, metric) for network, gateway, metric in routes]
    return State(Snapshot((one,), tuple(found)), {one.ifindex: link}, search, domain)


def four(cidr, **more):
    address, _slash, length = cidr.partition("/")
    return dict({"id": cidr, "type": "ipv6" if ":" in cidr else "ipv4", "ip_address": address, "netmask": length}, **more)


def lines(wanted, there, owned=None):
    (one,) = there.snapshot.nics
    return [step.line.replace("netsh interface ", "").replace(" store=persistent", "") for step in difference.steps(wanted, one, there, owned or Owned())]


def test_nothing_is_done_where_all_is_there():
    assert lines(item(four("192.0.2.1/24")), state(nic("192.0.2.1/24"))) == []


def test_the_first_address_switches_dhcp_off():
    done = lines(item(four("192.0.2.1/24"), four("192.0.2.2/24")), state(nic("10.0.0.9/8"), dhcp4=True))
    assert done == [
        "ipv4 set address name=7 source=static address=192.0.2.1 mask=255.255.255.0",
        "ipv4 add address name=7 address=192.0.2.2 mask=255.255.255.0",
    ]


def test_an_address_that_is_there_while_dhcp_is_on_is_made_static():
    done = lines(item(four("192.0.2.1/24"), four("2001:db8::1/64")), state(nic("192.0.2.1/24"), dhcp4=True))
    assert done == [
        "ipv4 set address name=7 source=static address=192.0.2.1 mask=255.255.255.0",
        "ipv6 add address interface=7 address=2001:db8::1/64",
    ]


def test_dhcp_is_switched_on_and_only_once():
    lease = {"id": "x", "type": "ipv4_dhcp"}
    assert lines(item(lease), state(nic())) == ["ipv4 set address name=7 source=dhcp"]
    assert lines(item(lease), state(nic(), dhcp4=True)) == []


def test_a_lease_and_a_fixed_address_are_reported():
    both = item({"id": "x", "type": "ipv4_dhcp"}, four("192.0.2.1/24"))
    assert lines(both, state(nic("192.0.2.1/24"))) == []
    assert "either a lease or fixed" in difference.notes(both, nic())[0]


def test_only_what_is_ours_goes_and_it_goes_last():
    there = state(nic("192.0.2.1/24", "192.0.2.77/24"), [("0.0.0.0/0", "192.0.2.254", 0), ("10.0.0.0/8", "192.0.2.3", 0)])
    owned = Owned(frozenset(["192.0.2.1/24"]), frozenset([("0.0.0.0/0", "192.0.2.254")]))
    new = item(four("192.0.2.2/24", routes=[{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.0.2.253"}]))
    assert lines(new, there, owned) == [
        "ipv4 add address name=7 address=192.0.2.2 mask=255.255.255.0",
        "ipv4 add route prefix=0.0.0.0/0 interface=7 nexthop=192.0.2.253",
        "ipv4 delete route prefix=0.0.0.0/0 interface=7 nexthop=192.0.2.254",
        "ipv4 delete address name=7 address=192.0.2.1",
    ]


def test_the_same_address_with_another_prefix_is_replaced():
    assert lines(item(four("192.0.2.1/24")), state(nic("192.0.2.1/25"))) == [
        "ipv4 delete address name=7 address=192.0.2.1",
        "ipv4 add address name=7 address=192.0.2.1 mask=255.255.255.0",
    ]


def test_a_gateway_off_the_subnet_has_a_route_first():
    done = lines(item(four("192.0.2.1/32", gateway="203.0.113.1")), state(nic("192.0.2.1/32")))
    assert done == [
        "ipv4 add route prefix=203.0.113.1/32 interface=7",
        "ipv4 add route prefix=0.0.0.0/0 interface=7 nexthop=203.0.113.1",
    ]


def test_a_route_of_a_lease_waits_for_the_lease():
    routes = [{"network": "10.0.0.0/8", "gateway": "192.0.2.65"}]
    leased = item({"id": "x", "type": "ipv4_dhcp", "routes": routes})
    assert lines(leased, state(nic(), dhcp4=True)) == []
    assert difference.waiting_routes(leased, nic(), state(nic())) == {("10.0.0.0/8", "192.0.2.65")}
    come = nic("192.0.2.100/26")
    assert lines(leased, state(come, dhcp4=True)) == ["ipv4 add route prefix=10.0.0.0/8 interface=7 nexthop=192.0.2.65"]
    assert difference.waiting_routes(leased, come, state(come)) == frozenset()
    # An address of DHCPv6 is alone; its subnet is advertised, and shown as a route on the link.
    stateful = item({"id": "x", "type": "ipv6_dhcpv6-stateful", "routes": [{"network": "2001:db8:8::/48", "gateway": "2001:db8::1"}]})
    alone = nic("2001:db8::7/128")
    assert lines(stateful, state(alone)) == []
    assert len(lines(stateful, state(alone, [("2001:db8::/64", "", 256)]))) == 1


def test_another_metric_is_set():
    there = state(nic("192.0.2.1/24"), [("10.0.0.0/8", "192.0.2.3", 1)])
    new = item(four("192.0.2.1/24", routes=[{"network": "10.0.0.0/8", "gateway": "192.0.2.3", "metric": 50}]))
    assert lines(new, there) == ["ipv4 set route prefix=10.0.0.0/8 interface=7 nexthop=192.0.2.3 metric=50"]


@pytest.mark.parametrize(
    ("there", "done"),
    [
        (nic(mtu=1500), ["ipv4 set subinterface interface=7 mtu=1450", "ipv6 set subinterface interface=7 mtu=1450"]),
        (nic(mtu=1500, ipv6=False), ["ipv4 set subinterface interface=7 mtu=1450"]),
        (nic(mtu=1400, max_mtu=1400), []),  # the driver takes no more
    ],
)
def test_the_mtu_of_both_families(there, done):
    assert lines(item(), state(there)) == done


def test_an_mtu_of_ipv6_alone_and_one_too_low_for_it():
    assert lines(item(), state(nic(), mtu6=1500)) == ["ipv6 set subinterface interface=7 mtu=1450"]
    assert lines(item(mtu=1000), state(nic())) == ["ipv4 set subinterface interface=7 mtu=1000"]


def test_an_automatic_network_needs_router_discovery():
    slaac = item({"id": "x", "type": "ipv6_slaac"})
    assert lines(slaac, state(nic(), router_discovery=False)) == ["ipv6 set interface interface=7 routerdiscovery=enabled"]
    assert lines(slaac, state(nic(), router_discovery=True)) == lines(slaac, state(nic())) == []
    assert lines(item(four("2001:db8::1/64")), state(nic("2001:db8::1/64"), router_discovery=False)) == []


def test_global_dns_is_for_a_nic_that_has_none_of_its_own():
    services = [{"type": "dns", "address": "198.51.100.53"}]
    own = four("192.0.2.1/24", services=[{"type": "dns", "address": "192.0.2.53"}, {"type": "dns", "address": "2001:db8::53"}])
    assert lines(item(own, services=services), state(nic("192.0.2.1/24"))) == [
        "ipv4 set dnsservers name=7 source=static address=192.0.2.53 validate=no",
        "ipv6 set dnsservers name=7 source=static address=2001:db8::53 validate=no",
    ]
    assert lines(item(four("192.0.2.1/24"), services=services), state(nic("192.0.2.1/24"), dns4=("198.51.100.53",))) == []


def test_dns_that_is_not_ours_stays_where_the_document_has_none():
    there = state(nic("192.0.2.1/24"), dns4=("9.9.9.9",))
    assert lines(item(four("192.0.2.1/24")), there) == []
    assert lines(item(four("192.0.2.1/24")), there, Owned(dns4=("9.9.9.9",))) == ["ipv4 set dnsservers name=7 source=dhcp"]


def domains(*names):
    services = [{"type": "dns", "address": "192.0.2.53", "search": list(names)}]
    return item(four("192.0.2.1/24", services=services))


def test_a_domain_is_the_connections_suffix():
    there = state(nic("192.0.2.1/24"), dns4=("192.0.2.53",))
    (line,) = lines(domains("a.example", "b.example"), there)
    assert line.endswith("Interfaces\\{GUID}\\Domain = a.example")
    ours = state(nic("192.0.2.1/24"), suffix="a.example")
    assert [line.rpartition("\\")[2] for line in lines(item(four("192.0.2.1/24")), ours, Owned(suffix="a.example"))] == ["Domain = (empty)"]
    assert lines(item(four("192.0.2.1/24")), ours) == []


def test_more_domains_are_the_machines_list_unless_it_has_one():
    two, bare = [domains("a.example", "b.example")], state(nic())
    assert difference.search_list(two, bare, ()) == ("a.example", "b.example")
    assert difference.search_list(two, state(nic(), domain="corp.example"), ())[0] == "corp.example"
    assert difference.search_list(two, state(nic(), search=("corp.example",)), ()) is None
    assert difference.search_list([domains("a.example")], bare, ()) is None
    ours = ("a.example", "b.example")
    assert difference.search_list([domains("a.example")], state(nic(), search=ours), ours) == ()


def test_a_name_with_blanks_is_one_word_for_netsh():
    assert netsh.rename("Подключение по сети 2", "public net").line == 'netsh interface set interface "name=Подключение по сети 2" "newname=public net"'


@pytest.mark.parametrize("words", [["plan", "--stdin", "--diff", "--json"], ["apply", "--stdin", "--timeout", "150"]])
def test_what_a_host_says_through_the_guest_agent_is_understood(words):
    """osnetd_push/cli.py: the same words for every guest."""
    args = cli._parser().parse_args(words)
    assert (args.stdin, args.dry_run, args.json) == (True, "--diff" in words, "--json" in words)


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "x"])
def test_a_time_to_wait_is_a_number_that_ends(seconds, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["apply", "--stdin", "--timeout", seconds])
    assert ended.value.code == cli.EXIT_REFUSED and "invalid number of seconds value" in capsys.readouterr().err


def test_a_standard_input_that_does_not_end_is_not_waited_for_forever(monkeypatch, capsys):
    reading, writing = os.pipe()
    os.write(writing, b"{")
    monkeypatch.setattr(cli, "_LEAST_SECONDS", 0.2)
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert cli.main(["apply", "--stdin", "--timeout", "0"]) == cli.EXIT_BUSY
        assert "nothing was changed: standard input: it does not end: 1 bytes came within 0.2 s" in capsys.readouterr().err
        os.close(writing)  # and the thread ends


class Console(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.mark.skipif(sys.version_info < (3, 7), reason="no Python of cloudbase-init's is that old")
@pytest.mark.parametrize(("kind", "shown"), [(io.TextIOWrapper, "Сеть".encode()), (Console, b"\\u0421\\u0435\\u0442\\u044c")])
def test_a_program_gets_utf_8_and_a_console_what_it_can_show(kind, shown):
    stream = kind(io.BytesIO(), encoding="cp437")
    cli._take_any_name(stream)
    stream.write("Сеть")
    stream.flush()
    assert stream.buffer.getvalue() == shown


def test_names_of_a_document():
    links = [
        {"id": "tap1", "ethernet_mac_address": "FA:16:3E:00:00:01", "name": "public"},
        {"id": "tap2", "ethernet_mac_address": "fa:16:3e:00:00:02"},
        {"id": "same", "ethernet_mac_address": "fa:16:3e:00:00:03"},
        {"id": "same", "ethernet_mac_address": "fa:16:3e:00:00:04"},
        {"id": 'a"b', "ethernet_mac_address": "fa:16:3e:00:00:05"},
        {"id": "tap6"},
        None,
    ]
    assert config.names(json.dumps({"links": links}).encode()) == {MAC: "public", "fa:16:3e:00:00:02": "tap2"}


@pytest.mark.parametrize(
    ("more", "is_one"),
    [
        ({}, True),
        ({"type": 24}, False),
        ({"flags": 7}, False),  # a filter driver, with the NIC's MAC
        ({"flags": 0}, False),
        ({"mtu": 0}, False),  # Wine's removed NIC
        ({"oper_status": 6}, False),  # Windows' removed NIC
        ({"oper_status": 2}, True),  # without a carrier
    ],
)
def test_what_is_a_nic(more, is_one):
    row = dict({"type": 6, "flags": 5, "mtu": 1500, "oper_status": 1}, **more)
    assert windows_state.is_nic(SimpleNamespace(**row)) is is_one


def test_the_structures_are_laid_out_as_windows_has_them():
    import ctypes

    assert [(kind.__name__, ctypes.sizeof(kind)) for kind, _size in iphelper.LAYOUT] == [
        (kind.__name__, size) for kind, size in iphelper.LAYOUT
    ]


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("[DEFAULT]\nusername=Admin\n", ",".join([*DEFAULTS, install.PLUGIN])),
        ("", ",".join([*DEFAULTS, install.PLUGIN])),
        ("[DEFAULT]\nplugins=x.Y\nverbose=true\n", "x.Y," + install.PLUGIN),
        ("[DEFAULT]\nplugins = x.Y,\n    z.Z\nverbose=true\n", "x.Y,\n    z.Z," + install.PLUGIN),
        ("[DEFAULT]\nplugins=\nverbose=true\n", install.PLUGIN),
    ],
)
def test_the_plugin_goes_into_cloudbase_inits_file_and_out_again(text, listed):
    with_it = install.with_plugin(text, DEFAULTS)
    assert listed in with_it
    assert install.with_plugin(with_it, DEFAULTS) == with_it
    assert install.without_plugin(with_it, DEFAULTS).replace("[DEFAULT]\n", "") == text.replace("[DEFAULT]\n", "")
    assert install.without_plugin(text, DEFAULTS) == text
