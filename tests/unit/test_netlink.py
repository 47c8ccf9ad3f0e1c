# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netlink: rtnetlink messages, built by hand as in linux/rtnetlink.h, are read into a snapshot."""

import os
import shutil
import socket
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd.core.records import Address, Route
from cloudinit_osnetd.kernel import ethtool, netlink
from cloudinit_osnetd.system import paths

from .build import A, B, nic, snapshot

NEWLINK, NEWADDR, NEWROUTE, DONE, ERROR = 16, 20, 24, 3, 2
GETLINK, GETADDR, GETROUTE = 18, 22, 26


def attribute(kind, value):
    raw = struct.pack("=HH", 4 + len(value), kind) + value
    return raw + b"\0" * (-len(raw) % 4)


def message(kind, seq, body, flags=2):
    raw = struct.pack("=IHHII", 16 + len(body), kind, flags, seq, 0) + body
    return raw + b"\0" * (-len(raw) % 4)


def u32(n):
    return struct.pack("=I", n)


def mac_bytes(mac):
    return bytes(int(pair, 16) for pair in mac.split(":"))


def link(name, index=2, flags=0x41, mac=A, permanent=None, mtu=1500, master=0, kind="", max_mtu=None):
    body = struct.pack("=BxHiII", 0, 1, index, flags, 0)
    body += attribute(3, name.encode() + b"\0") + attribute(4, u32(mtu)) + attribute(1, mac_bytes(mac))
    body += attribute(54, mac_bytes(permanent)) if permanent else b""
    body += attribute(10, u32(master)) if master else b""
    body += attribute(51, u32(max_mtu)) if max_mtu is not None else b""
    body += attribute(18 | 0x8000, attribute(1, kind.encode() + b"\0")) if kind else b""
    return message(NEWLINK, GETLINK, body)


def address(index, local, prefix, peer=None, flags=0x80, wide=None):
    family = socket.AF_INET6 if ":" in local else socket.AF_INET
    body = struct.pack("=BBBBi", family, prefix, flags, 0, index)
    body += attribute(1, socket.inet_pton(family, peer or local))
    body += attribute(2, socket.inet_pton(family, local)) if family == socket.AF_INET or peer else b""
    body += attribute(8, u32(wide)) if wide is not None else b""
    return message(NEWADDR, GETADDR, body)


def route(
    target="", length=0, gateway="", index=2, metric=0, table=254, wide_table=None, family=socket.AF_INET, kind=1, by=3
):
    body = struct.pack("=BBBBBBBBI", family, length, 0, 0, table, by, 0, kind, 0)
    body += attribute(1, socket.inet_pton(family, target)) if target else b""
    body += attribute(5, socket.inet_pton(family, gateway)) if gateway else b""
    body += attribute(4, u32(index)) + (attribute(6, u32(metric)) if metric else b"")
    body += attribute(15, u32(wide_table)) if wide_table is not None else b""
    return message(NEWROUTE, GETROUTE, body)


class Peer:
    """The kernel's end of the socket: answers each dump with the messages for it."""

    def __init__(self, links=(), addresses=(), routes=(), datagrams=None):
        self.answers = {GETLINK: list(links), GETADDR: list(addresses), GETROUTE: list(routes)}
        self.datagrams = datagrams
        self.waiting = []

    def send(self, raw):
        length, kind, flags, seq, _pid = struct.unpack_from("=IHHII", raw)
        assert (length, flags, seq) == (len(raw), 0x301, kind), "not a dump request"
        if self.datagrams is None:
            self.waiting = self.answers[kind] + [message(DONE, kind, u32(0))]
        else:
            self.waiting = self.datagrams.pop(0) if self.datagrams else []

    def recv(self, _size):
        return self.waiting.pop(0) if self.waiting else b""


@pytest.fixture
def sys_tree(tmp_path, monkeypatch):
    """/sys and udev's database, empty: a device of which they say nothing is hardware."""
    monkeypatch.setattr(paths, "KERNEL_NICS", str(tmp_path / "sys/class/net"))
    monkeypatch.setattr(paths, "UDEV_DATABASE", str(tmp_path / "udev"))
    monkeypatch.setattr(paths, "IPV6_SETTINGS", str(tmp_path / "conf"))
    monkeypatch.setattr(ethtool, "permanent_address", lambda _name: b"")
    (tmp_path / "udev").mkdir()

    def device(name, index, virtual=True, claimed=None, permanent=None):
        real = tmp_path / "sys/devices" / ("virtual" if virtual else "pci0000:00") / "net" / name
        real.mkdir(parents=True)
        (tmp_path / "sys/class/net").mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys/class/net" / name).symlink_to(real)
        if claimed is not None:
            (tmp_path / "udev" / ("n%d" % index)).write_text("I:1\nE:%s\n" % claimed)
        if permanent:
            (real / "bonding_slave").mkdir()
            (real / "bonding_slave/perm_hwaddr").write_text(permanent + "\n")

    return device


def only(peer):
    (found,) = netlink.read(peer).nics
    return found


def test_a_link_is_read_with_its_addresses(sys_tree):
    found = only(
        Peer(
            [link("ens3", 2, mtu=1450)],
            [address(2, "10.0.0.5", 24), address(2, "fd00::5", 64), address(9, "10.9.9.9", 8)],
        )
    )
    assert (found.name, found.ifindex, found.mac, found.mtu, found.up, found.carrier) == ("ens3", 2, A, 1450, True, True)
    assert [a.address for a in found.addresses] == ["10.0.0.5/24", "fd00::5/64"]
    assert found.has("10.0.0.5/24")
    assert not found.has("10.0.0.5/25")


def test_what_a_device_takes_at_the_most_is_read_where_the_kernel_tells(sys_tree):
    assert only(Peer([link("ens3", max_mtu=1450)])).max_mtu == 1450
    assert only(Peer([link("ens3")])).max_mtu == 0


def test_several_messages_in_one_answer_are_all_read(sys_tree):
    both = link("ens3", 2) + link("ens4", 3, mac=B) + message(DONE, GETLINK, u32(0))
    done = [[message(DONE, kind, u32(0))] for kind in (GETADDR, GETROUTE)]
    assert [n.name for n in netlink.read(Peer(datagrams=[[both]] + done)).nics] == ["ens3", "ens4"]


def test_messages_of_another_request_are_passed_over(sys_tree):
    stray = message(NEWLINK, 77, b"")
    assert only(Peer([stray, link("ens3")])).name == "ens3"


@pytest.mark.parametrize(("setting", "ipv6"), [("0\n", True), ("1\n", False), (None, False)])
def test_where_ipv6_is_switched_off_a_nic_has_none(sys_tree, tmp_path, setting, ipv6):
    """For it alone, or for all: then there is nothing to switch."""
    if setting:
        (tmp_path / "conf/ens3").mkdir(parents=True)
        (tmp_path / "conf/ens3/disable_ipv6").write_text(setting)
    assert only(Peer([link("ens3")])).ipv6 == ipv6


def test_the_best_way_out_is_ipv4s(sys_tree):
    nics = [link("ens3", 2), link("ens4", 3, mac=B)]
    routes = [route(gateway="10.0.0.1", metric=1024), route(family=socket.AF_INET6, gateway="fe80::1", index=3, metric=512)]
    assert netlink.read(Peer(nics, routes=routes)).default_route_macs() == (A, B)


def test_the_loopback_is_no_nic(sys_tree):
    assert netlink.read(Peer([link("lo", 1, mac="00:00:00:00:00:00"), link("ens3")])).named("lo") is None


@pytest.mark.parametrize(("flags", "up", "carrier"), [(0, False, False), (0x1, True, False), (0x41, True, True)])
def test_up_and_carrier(sys_tree, flags, up, carrier):
    found = only(Peer([link("ens3", flags=flags)]))
    assert (found.up, found.carrier) == (up, carrier)


def test_of_an_infiniband_nics_twenty_octets_six_make_its_mac(sys_tree):
    long = "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:1a:b2:c3"
    assert only(Peer([link("ib0", mac=long, permanent=long)])).mac == "00:02:c9:1a:b2:c3"


def test_a_nic_is_known_by_its_permanent_mac(sys_tree):
    found = only(Peer([link("ens3", mac=B, permanent=A)]))
    assert (found.mac, found.current_mac) == (A, B)


def test_a_bond_members_own_mac_is_found_where_the_kernel_tells_no_permanent_one(sys_tree):
    sys_tree("ens3", 2, virtual=False, permanent=A.upper())
    assert only(Peer([link("ens3", mac=B, master=7)])).mac == A


def test_a_nics_own_mac_is_its_drivers_where_the_kernel_tells_no_permanent_one(sys_tree, monkeypatch):
    """Linux before 5.6; somebody has given it another one."""
    monkeypatch.setattr(ethtool, "permanent_address", {"ens3": mac_bytes(A), "ens4": bytes(6)}.get)
    sys_tree("veth0", 4, virtual=True)
    told = netlink.read(Peer([link("ens3", mac=B), link("ens4", 3, mac=B), link("veth0", 4, mac=B, kind="veth")])).nics
    assert [(n.mac, n.current_mac) for n in told] == [(A, B), (B, B), (B, B)]


@pytest.mark.skipif(not os.path.exists("/proc/net/dev"), reason="not Linux")
def test_the_drivers_of_this_machine_say_what_netlink_does():
    """Devices that are made of software have nothing to say."""
    for one in netlink.snapshot().nics:
        assert netlink._mac_text(ethtool.permanent_address(one.name)) in ("", one.mac)
    assert ethtool.permanent_address("no-such-nic") == b""
    assert ethtool.permanent_address("lo") in (b"", bytes(6))


def test_a_mac_of_zeros_is_none(sys_tree):
    assert only(Peer([link("tun0", mac="00:00:00:00:00:00")])).mac == ""


@pytest.mark.parametrize(
    ("path", "device"),
    [
        ("pci0000:00/0000:00:05.0/virtio2/net/ens5", "pci0000:00/0000:00:05.0"),
        ("pci0000:00/0000:00:02.0/0000:01:00.0/virtio12/net/enp1s0", "pci0000:00/0000:00:02.0/0000:01:00.0"),
        ("pci0000:00/0000:00:05.0/net/ens5", "pci0000:00/0000:00:05.0"),  # e1000, a VF
        ("LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00/f8615163-0001/net/eth0", "LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00/f8615163-0001"),
        ("vif-1/net/eth1", "vif-1"),  # Xen
        ("css0/0.0.0001/0.0.0001/virtio1/net/enc1", "css0/0.0.0001/0.0.0001"),  # s390
        ("platform/a003c00.virtio_mmio/virtio0/net/eth0", "platform/a003c00.virtio_mmio"),
        ("platform/virtio-mmio.0/virtio0/net/eth0", "platform/virtio-mmio.0"),
        ("pci0000:00/0000:00:1d.7/usb1/1-1/1-1:1.0/net/enx0", "pci0000:00/0000:00:1d.7/usb1/1-1/1-1:1.0"),
        ("vmbus_0_11/net/eth0", "vmbus_0_11"),
        ("virtual/net/ens4", "virtual/net/ens4"),  # goes with its NIC
        ("pci0000:00/0000:00:05.0/net:eth0", ""),
        ("", ""),
    ],
)
def test_the_bus_device_is_the_one_that_a_driver_leaves_behind(path, device):
    top = "/sys/devices/"
    assert netlink.bus_device(top + path if path else "") == (top + device if device else "")


@pytest.mark.parametrize(
    ("virtual", "claimed", "counts"),
    [
        (False, None, True),
        (True, None, False),
        (True, "OSNETD_MANAGE=1", True),
        (True, "OSNETD_MANAGE=0", False),
        (True, "OSNETD_MANAGE=10", False),
        (True, "NOT_OSNETD_MANAGE=1", False),
    ],
)
def test_a_virtual_device_counts_when_somebody_claims_it(sys_tree, virtual, claimed, counts):
    sys_tree("ens3", 2, virtual, claimed)
    found = netlink.read(Peer([link("ens3")]))
    assert (A in found.by_mac()) == counts


@pytest.mark.parametrize(("kind", "counts"), [("veth", True), ("bridge", False), ("bond", False), ("", False)])
def test_early_a_veth_counts_as_one_that_somebody_will_claim(sys_tree, kind, counts):
    sys_tree("x0", 2)
    found = netlink.read(Peer([link("x0", kind=kind)]))
    assert (A in found.by_mac(early=True)) == counts
    assert A not in found.by_mac()


def test_of_two_devices_with_one_mac_the_one_that_owns_it_is_the_nic():
    member = nic("ens4", mac=A, current_mac=B, index=3)
    assert snapshot(nic("ens3"), member).by_mac()[A].name == "ens3"
    assert snapshot(member, nic("ens3")).by_mac()[A].name == "ens3"


def test_of_a_point_to_point_link_the_own_address_counts(sys_tree):
    assert (
        only(Peer([link("ens3")], [address(2, "10.0.0.5", 32, peer="10.0.0.1")])).addresses[0].address == "10.0.0.5/32"
    )


@pytest.mark.parametrize(
    ("flags", "wide", "tentative", "permanent"),
    [
        (0x80, None, False, True),
        (0x00, None, False, False),
        (0xC0, None, True, True),
        (0x00, 0x80, False, True),
        (0x80, 0x40, True, False),
    ],
)
def test_tentative_and_permanent(sys_tree, flags, wide, tentative, permanent):
    found = only(Peer([link("ens3")], [address(2, "fd00::5", 64, flags=flags, wide=wide)]))
    assert found.addresses == (Address("fd00::5/64", tentative, permanent),)


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (route(gateway="10.0.0.1", metric=100), Route("0.0.0.0/0", "10.0.0.1", 2, 100)),
        (route("10.1.0.0", 16, index=5), Route("10.1.0.0/16", "", 5, 0)),
        (route(family=socket.AF_INET6, gateway="fe80::1"), Route("::/0", "fe80::1", 2, 0)),
        (route(family=socket.AF_INET6, gateway="fe80::1", by=9), Route("::/0", "fe80::1", 2, 0, advertised=True)),
        (route("fd00::", 64, family=socket.AF_INET6), Route("fd00::/64", "", 2, 0)),
        (route("10.1.0.0", 16, wide_table=254, table=252), Route("10.1.0.0/16", "", 2, 0)),
        (route("10.1.0.0", 16, table=255), None),
        (route("10.1.0.0", 16, wide_table=1000, table=252), None),
        (route("10.1.0.255", 32, kind=3), None),
    ],
)
def test_unicast_routes_of_the_main_table_are_read(sys_tree, raw, read):
    assert netlink.read(Peer(routes=[raw])).routes == ((read,) if read else ())


def test_an_error_of_the_kernel_is_an_oserror_with_its_number(sys_tree):
    refused = message(ERROR, GETLINK, struct.pack("=i", -1) + b"\0" * 16)
    with pytest.raises(PermissionError):
        netlink.read(Peer([refused]))


# -- interrupted ----------------------------------------------------------------------------------------------

INTERRUPTED = 0x12


@pytest.mark.parametrize("times", [1, 2, 7])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["links", "addresses", "routes"])
@pytest.mark.parametrize("told_by", ["a message", "the end"])
def test_a_dump_that_a_change_has_interrupted_is_not_taken_for_whole(sys_tree, monkeypatch, times, which, told_by):
    monkeypatch.setattr(netlink.time, "sleep", lambda _seconds: None)
    kind = (GETLINK, GETADDR, GETROUTE)[which]
    # Of the links one is lacking, of the others one is there twice.
    half = [link("ens3")], [address(2, "10.0.0.5", 24)] * 2, [route("10.1.0.0", 16)] * 2
    flags = {"a message": (INTERRUPTED, 2), "the end": (2, INTERRUPTED)}[told_by]
    first = bytearray(half[which][0])
    first[6:8] = struct.pack("=H", flags[0])
    again = [bytes(first) + b"".join(half[which][1:]) + message(DONE, kind, u32(0), flags[1])]
    whole = [link("ens3") + link("ens4", 3, mac=B)], [address(2, "10.0.0.5", 24)], [route("10.1.0.0", 16)]
    answers = [
        [list(again) for _ in range(times if number == which else 0)]
        + [[b"".join(one) + message(DONE, (GETLINK, GETADDR, GETROUTE)[number], u32(0))]]
        for number, one in enumerate(whole)
    ]
    read = netlink.read(Peer(datagrams=[datagram for one in answers for datagram in one]))
    assert [n.name for n in read.nics] == ["ens3", "ens4"]
    assert [len(n.addresses) for n in read.nics] == [1, 0] and len(read.routes) == 1


def test_one_that_is_always_interrupted_is_no_snapshot(sys_tree, monkeypatch):
    slept = []
    monkeypatch.setattr(netlink.time, "sleep", slept.append)
    endless = [[link("ens3") + message(DONE, GETLINK, u32(0), INTERRUPTED)] for _ in range(1000)]
    with pytest.raises(OSError, match="interrupted 20 times"):
        netlink.read(Peer(datagrams=endless))
    assert 0.5 < sum(slept) < 1.5


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="makes links in a namespace of its own")
def test_while_links_come_and_go_no_snapshot_lacks_one_that_is_there():
    churn = ["unshare", "--net", sys.executable, "-m", "tests.unit.churn"]
    interrupted, lacking = map(int, subprocess.run(churn, stdout=subprocess.PIPE, check=True).stdout.split())
    assert interrupted > 0 and lacking == 0


WHOLE = [
    [link("ens3", kind="veth", permanent=B, master=3) + message(DONE, GETLINK, u32(0))],
    [address(2, "10.0.0.5", 24, wide=0x80) + address(2, "fd00::5", 64) + message(DONE, GETADDR, u32(0))],
    [route("10.1.0.0", 16, "10.0.0.1", metric=5, wide_table=254) + message(DONE, GETROUTE, u32(0))],
]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["links", "addresses", "routes"])
def test_an_answer_cut_off_anywhere_is_an_oserror_and_never_half_a_snapshot(sys_tree, which):
    whole = netlink.read(Peer(datagrams=[list(d) for d in WHOLE]))
    for end in range(len(WHOLE[which][0])):
        cut = [list(d) for d in WHOLE]
        cut[which] = [WHOLE[which][0][:end]]
        try:
            assert netlink.read(Peer(datagrams=cut)) == whole
        except OSError:
            continue


@pytest.mark.parametrize("which", [0, 1, 2], ids=["links", "addresses", "routes"])
def test_a_message_cut_off_is_an_oserror_also_where_the_answer_goes_on(sys_tree, which):
    done = message(DONE, (GETLINK, GETADDR, GETROUTE)[which], u32(0))
    for end in range(1, len(WHOLE[which][0]) - len(done)):
        cut = [list(d) for d in WHOLE]
        cut[which] = [WHOLE[which][0][:end], done]
        if end not in message_ends(WHOLE[which][0]):
            with pytest.raises(OSError, match="netlink"):
                netlink.read(Peer(datagrams=cut))


def message_ends(raw):
    """Where one message of an answer ends: what is cut off there is a message less, and no fault can be seen."""
    ends, offset = set(), 0
    while offset < len(raw):
        offset += (struct.unpack_from("=I", raw, offset)[0] + 3) & ~3
        ends.add(offset)
    return ends


@given(st.integers(0, 2), st.data())
def test_an_answer_with_a_wrong_byte_is_read_or_an_oserror(which, data):
    raw = bytearray(WHOLE[which][0])
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    spoilt = [list(d) for d in WHOLE]
    spoilt[which] = [bytes(raw)]
    try:
        netlink.read(Peer(datagrams=spoilt))
    except OSError:
        pass


@pytest.mark.skipif(not os.path.exists("/proc/net/dev"), reason="not Linux")
def test_the_kernel_of_this_machine_is_read():
    with open("/proc/net/dev") as fh:
        names = {line.split(":")[0].strip() for line in fh if ":" in line}
    assert {n.name for n in netlink.snapshot().nics} == names - {"lo"}


@pytest.mark.parametrize(
    ("running", "seen", "awaited"), [(True, ["n2", "n3"], False), (True, ["n2"], True), (True, [], True), (False, [], False)]
)
def test_udev_is_awaited_where_it_runs_and_has_not_seen_a_nic(sys_tree, tmp_path, monkeypatch, running, seen, awaited):
    monkeypatch.setattr(paths, "UDEV_CONTROL", str(tmp_path / "control"))
    if running:
        (tmp_path / "control").touch()
    for name in seen:
        (tmp_path / "udev" / name).touch()
    nics = netlink.read(Peer([link("ens3", 2), link("eth0", 3, mac=B)])).nics
    assert netlink.awaits_udev(nics) is awaited
