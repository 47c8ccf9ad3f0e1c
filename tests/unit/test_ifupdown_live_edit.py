# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""live_edit: the commands that apply the difference of two sections to a NIC that is up."""

import pytest

from cloudinit_osnetd.backends.eni import finish_stanza, stanza_meaning
from cloudinit_osnetd.backends.ifupdown import live_edit
from cloudinit_osnetd.core.records import Route
from cloudinit_osnetd.system import paths

from .build import A, nic, snapshot

PLAIN = """auto ens4
iface ens4 inet static
    address 10.91.0.50/24
    dns-nameservers 10.91.0.2
    mtu 1400
    post-up route add -net 10.9.0.0 netmask 255.255.0.0 gw 10.91.0.9 || true
    pre-down route del -net 10.9.0.0 netmask 255.255.0.0 gw 10.91.0.9 || true
    post-up route add default gw 10.91.0.1 || true
    pre-down route del default gw 10.91.0.1 || true

# control-alias ens4
iface ens4 inet6 static
    address 2001:db8::50/64
    dns-nameservers 2001:db8::2
    post-up route add -A inet6 default gw 2001:db8::1 || true
    pre-down route del -A inet6 default gw 2001:db8::1 || true
"""


def finished(text):
    return finish_stanza.finished(text, "ens4", "pre-up")


def commands(old, new):
    edit = live_edit.between(old, new, "ens4")
    return None if edit is None else [" ".join(command) for command in edit.commands]


@pytest.fixture(autouse=True)
def no_hooks(monkeypatch, tmp_path):
    (tmp_path / "if-up.d").mkdir()
    (tmp_path / "if-down.d").mkdir()
    for hook in ("if-up.d/000resolvconf", "if-down.d/resolvconf"):
        (tmp_path / hook).touch()
    monkeypatch.setattr(paths, "IFUPDOWN_HOOKS", str(tmp_path))


@pytest.mark.parametrize("finish", [str, finished], ids=["plain", "finished"])
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("dns-nameservers 10.91.0.2\n", "dns-nameservers 10.91.0.3 10.91.0.4\n", ["IF_DNS_NAMESERVERS=10.91.0.3 10.91.0.4"]),
        ("    dns-nameservers 10.91.0.2\n", "", ["MODE=stop"]),
        ("mtu 1400", "mtu 1340", ["ip link set dev ens4 mtu 1340"]),
        ("    mtu 1400\n", "", []),
        (
            "10.9.0.0 netmask 255.255.0.0 gw 10.91.0.9",
            "10.9.0.0 netmask 255.255.0.0 gw 10.91.0.8",
            ["ip -4 route append 10.9.0.0/16 via 10.91.0.8 dev ens4", "ip -4 route del 10.9.0.0/16 via 10.91.0.9 dev ens4"],
        ),
        (
            "2001:db8::1 ",
            "2001:db8::9 ",
            [
                "ip -6 route append default via 2001:db8::9 metric 1023 dev ens4",
                "ip -6 route del default via 2001:db8::1 metric 1023 dev ens4",
            ],
        ),
    ],
)
def test_the_difference(finish, old, new, said):
    got = commands(finish(PLAIN), finish(PLAIN.replace(old, new)))
    assert got is not None and len(got) == len(said)
    assert all(words in command for words, command in zip(said, got)), got


@pytest.mark.parametrize("finish", [str, finished], ids=["plain", "finished"])
def test_another_address_comes_before_the_old_one_goes(finish):
    got = commands(finish(PLAIN), finish(PLAIN.replace("address 10.91.0.50/24", "address 10.91.0.51/24")))
    add, delete = "ip -4 address add 10.91.0.51/24 dev ens4", "ip -4 address del 10.91.0.50/24 dev ens4"
    places = [next(n for n, command in enumerate(got) if command.startswith(words)) for words in (add, delete)]
    assert places == sorted(places)
    # The kernel takes the others of its subnet with it, and routes: they are made sure of.
    assert any(command.startswith("ip -4 address replace 10.91.0.51/24") for command in got[places[1] :])
    assert any(command.startswith("ip -4 route add default via 10.91.0.1") for command in got[places[1] :])


@pytest.mark.parametrize("finish", [str, finished], ids=["cloud-init's", "ours"])
def test_an_address_of_several_comes_and_goes_while_the_nic_is_up(finish):
    """Each further stanza of a NIC follows a comment of cloud-init's."""
    more = "\n# control-alias ens4\niface ens4 inet static\n    address 10.91.0.51/24\n    dns-nameservers 10.91.0.2\n    mtu 1400\n"
    three = PLAIN + more + more.replace(".51/", ".52/")
    two = PLAIN + more.replace(".51/", ".52/")
    assert commands(finish(three), finish(two))[0] == "ip -4 address del 10.91.0.51/24 dev ens4"
    assert commands(finish(two), finish(three))[0].startswith("ip -4 address add 10.91.0.51/24 dev ens4")


def test_what_cloud_init_wrote_and_what_we_make_of_it_mean_the_same_but_for_settings():
    got = commands(PLAIN, finished(PLAIN))
    assert got is not None and all("/proc/sys/net/ipv6/conf/ens4/" in command for command in got), got


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("iface ens4 inet static", "iface ens4 inet dhcp"),
        ("    mtu 1400\n", "    mtu 1400\n    hwaddress fa:16:3e:00:00:01\n"),
        ("    mtu 1400\n", "    mtu 1400\n    bond-master bond0\n"),
        ("    mtu 1400\n", "    mtu 1400\n    post-up /usr/local/bin/hook $IFACE\n"),
        ("    mtu 1400\n", "    mtu 1400\n    post-up ip rule add from 10.91.0.50 table 7\n"),
        ("    mtu 1400\n", "    mtu 1400\n    post-up ip route add 10.8.0.0/16 via 10.91.0.3; reboot\n"),
        ("auto ens4", "allow-hotplug ens4"),
    ],
)
def test_what_takes_ifdown_and_ifup(old, new):
    assert commands(PLAIN, PLAIN.replace(old, new)) is None


def test_a_gateway_option_and_a_netmask_are_a_route_and_a_prefix():
    old = "auto ens4\niface ens4 inet static\n    address 10.91.0.50\n    netmask 255.255.255.0\n    gateway 10.91.0.1\n"
    new = "auto ens4\niface ens4 inet static\n    address 10.91.0.50/24\n    post-up ip route add default via 10.91.0.1 || true\n"
    assert commands(old, new) == []


def test_a_route_that_both_sections_have_and_the_kernel_lacks_is_added():
    """Without net-tools cloud-init's own `route add` fails, and nobody hears of it."""
    nic_ = nic("ens4", A, 5, ["10.91.0.50/24", "2001:db8::50/64"])
    there = [Route("10.9.0.0/16", "10.91.0.9", 5, 0), Route("::/0", "2001:db8::1", 5, 1024), Route("0.0.0.0/0", "10.91.0.1", 4, 0)]
    edit = live_edit.between(PLAIN, PLAIN.replace("mtu 1400", "mtu 1300"), "ens4", snapshot(nic_, routes=there))
    assert [" ".join(command) for command in edit.commands] == [
        "ip link set dev ens4 mtu 1300",
        "ip -4 route add default via 10.91.0.1 dev ens4",
    ]


@pytest.mark.parametrize(
    ("there", "deleted"),
    [
        ([Route("2000::/3", "fe80::1", 5, 1)], ["ip -6 route del 2000::/3 via fe80::1 metric 1 dev ens4"]),  # route(8)'s
        ([Route("2000::/3", "fe80::1", 4, 1)], []),  # by another NIC: a link-local gateway, and no `dev`
        ([], []),
    ],
)
def test_an_old_route_that_the_kernel_lacks_does_not_cost_the_new_one(there, deleted):
    """Without a metric `ip route del` would delete the new one, which differs in its metric alone."""
    old = "auto ens4\niface ens4 inet static\n    address 10.91.0.50/24\n    post-up route add -A inet6 2000::/3 gw fe80::1 || true\n"
    new = old.replace("route add -A inet6 2000::/3 gw fe80::1", "ip -family inet6 route add 2000::/3 via fe80::1 metric 2100 dev ens4")
    edit = live_edit.between(old, new, "ens4", snapshot(nic("ens4", A, 5, ["10.91.0.50/24"]), routes=there))
    added, *rest = [" ".join(command) for command in edit.commands]
    assert (added, rest) == ("ip -6 route add 2000::/3 via fe80::1 metric 2100 dev ens4", deleted)


def test_an_old_ipv4_route_that_the_kernel_lacks_does_not_cost_the_new_one():
    new = PLAIN.replace("default gw 10.91.0.1 ", "default gw 10.91.0.1 metric 2100 ")
    nic_ = nic("ens4", A, 5, ["10.91.0.50/24", "2001:db8::50/64"])
    others = [Route("10.9.0.0/16", "10.91.0.9", 5, 0), Route("::/0", "2001:db8::1", 5, 1024)]
    for has, deletes in (([Route("0.0.0.0/0", "10.91.0.1", 5, 0)], True), ([], False)):
        edit = live_edit.between(PLAIN, new, "ens4", snapshot(nic_, routes=others + has))
        said = [" ".join(command) for command in edit.commands]
        assert ("ip -4 route del default via 10.91.0.1 dev ens4" in said) is deletes, said
        assert "ip -4 route add default via 10.91.0.1 metric 2100 dev ens4" in said


def test_a_route_to_the_own_subnet_is_put_beside_the_kernels_own():
    """By way of a gateway, as Ironic's documents have it: `ip route add` is refused, because there is one without."""
    base = "auto ens3\niface ens3 inet static\n    address 192.0.2.10/26\n"
    route = "    post-up route add -net 192.0.2.0 netmask 255.255.255.192 gw 192.0.2.1 || true\n    pre-down route del -net 192.0.2.0 netmask 255.255.255.192 gw 192.0.2.1 || true\n"
    other = "    post-up route add -net 198.51.100.0 netmask 255.255.255.0 gw 192.0.2.1 || true\n"
    text = finish_stanza.finished(base + route + other, "ens3", "pre-up")
    assert "    post-up ip route append 192.0.2.0/26 via 192.0.2.1 dev ens3 || true\n" in text
    assert "    pre-down ip route del 192.0.2.0/26 via 192.0.2.1 dev ens3 || true\n" in text
    assert "    post-up ip route add 198.51.100.0/24 via 192.0.2.1 dev ens3 || true\n" in text
    assert live_edit.facts(text, "ens3") == live_edit.facts(base + route + other, "ens3")
    assert stanza_meaning.of(text, "ens3") == stanza_meaning.of(base + route + other, "ens3")
    edit = live_edit.between(finish_stanza.finished(base, "ens3", "pre-up"), text, "ens3")
    assert [command[3] for command in edit.commands] == ["append", "add"]
    back = live_edit.between(text, finish_stanza.finished(base, "ens3", "pre-up"), "ens3")
    assert ("ip", "-4", "route", "del", "192.0.2.0/26", "via", "192.0.2.1", "dev", "ens3") in back.commands


def test_dns_stands_in_the_last_stanza_of_its_family():
    """What resolvconf's hook is told by a stanza replaces what the NIC's earlier ones of the family said."""
    stanzas = (
        "auto ens4\niface ens4 inet static\n    address 10.0.0.5/24\n    dns-nameservers 10.0.0.2 10.0.0.3\n    dns-search a.example\n\n"
        "# control-alias ens4\niface ens4 inet static\n    address 10.0.1.5/24\n    dns-nameservers 10.0.0.3 10.0.1.2\n    post-up ip route add 10.9.0.0/16 via 10.0.1.1 || true\n\n"
        "# control-alias ens4\niface ens4 inet6 static\n    address fd00::5/64\n    dns-nameservers fd00::2\n"
    )
    text = finish_stanza.finished(stanzas, "ens4", "pre-up")
    first, second, third = text.split("iface ")[1:]
    assert "dns-" not in first
    assert "    dns-nameservers 10.0.0.2 10.0.0.3 10.0.1.2\n    dns-search a.example\n    post-up ip route" in second
    assert third.count("dns-nameservers fd00::2") == 1
    assert finish_stanza.finished(text, "ens4", "pre-up") == text
    meanings = [{fact for fact in stanza_meaning.of(one, "ens4") if fact.startswith(("dns", "search"))} for one in (stanzas, text)]
    assert meanings[0] == meanings[1] != set()
