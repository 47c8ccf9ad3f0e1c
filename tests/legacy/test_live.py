# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`apply` on real NICs: what a document says is what the kernel has, and nobody else's NIC is touched."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from types import ModuleType

import pytest

from cloudinit_osnetd import cli
from cloudinit_osnetd.commands import apply
from tests.lab.limit import limit_mtu

from .conftest import DEBIAN8, ENDS, MACS, PROGRAM, VERSIONS, Place, document, link, static

TWO = document(
    link(0),
    link(1, mtu=1400),
    static(0, "10.0.0.5/24", "10.0.0.1", [("10.8.0.0/16", "10.0.0.2")]),
    static(1, "10.1.0.5/24", "10.1.0.1"),
    static(1, "10.1.0.6/24"),
    static(1, "10.2.0.6/25"),
    static(1, "2001:db8:1::5/64", "2001:db8:1::1"),
    static(1, "2001:db8:1::6/64"),
    dns=["10.0.0.53"],
)


def assert_two(place: Place) -> None:
    assert place.addresses("eth0") == ["10.0.0.5/24"]
    assert place.routes("eth0") == ["4: 10.8.0.0/16 via 10.0.0.2", "4: default via 10.0.0.1"]
    assert place.addresses("eth1") == ["10.1.0.5/24", "10.1.0.6/24", "10.2.0.6/25", "2001:db8:1::5/64", "2001:db8:1::6/64"]
    assert place.routes("eth1") == ["4: default via 10.1.0.1 metric 2100", "6: default via 2001:db8:1::1 metric 2100"]
    assert (place.mtu("eth0"), place.mtu("eth1")) == (1450, 1400)


@pytest.mark.parametrize("version", VERSIONS)
def test_several_addresses_both_families_routes_and_mtu_and_a_second_run_runs_no_command(place: Place, version: str) -> None:
    done = place.apply(TWO)
    assert done.status == 0, done
    assert_two(place)
    before = place.files()
    again = place.apply(TWO)
    assert (again.status, again.commands()) == (0, []), again
    assert place.files() == before


@pytest.mark.parametrize("version", ENDS)
def test_only_the_nic_that_differs_is_touched(place: Place, version: str) -> None:
    assert place.apply(TWO).status == 0
    place.ip("address add 192.0.2.9/32 dev eth1", "route add 192.0.2.128/25 dev eth1", "address add 192.0.2.8/32 dev eth0")
    edited = json.loads(json.dumps(TWO))
    edited["networks"][0]["ip_address"] = "10.0.0.7"
    done = place.apply(edited)
    assert done.status == 0, done
    assert [command for command in done.commands() if "eth1" in command] == []
    # An operator's own address stays; the one that the port no longer has goes.
    assert place.addresses("eth0") == ["10.0.0.7/24", "192.0.2.8/32"]
    assert place.routes("eth0") == ["4: 10.8.0.0/16 via 10.0.0.2", "4: default via 10.0.0.1"]
    assert "192.0.2.9/32" in place.addresses("eth1")


@pytest.mark.parametrize("version", ENDS)
def test_gateways_that_no_subnet_holds(place: Place, version: str) -> None:
    said = document(
        link(0),
        static(0, "10.0.0.5/32", "10.9.9.1"),
        static(0, "2001:db8::5/128", "2001:db8:9::1"),
    )
    done = place.apply(said)
    assert done.status == 0, done
    assert place.routes("eth0") == [
        "4: 10.9.9.1",
        "4: default via 10.9.9.1",
        "6: 2001:db8:9::1",
        "6: default via 2001:db8:9::1",
    ]
    assert place.apply(said).commands() == []


def test_what_the_replaced_file_gave_goes_and_what_others_gave_stays(place: Place) -> None:
    """cloud-init configured eth0 by a stanza; its address is another one now."""
    place.write(
        "etc/network/interfaces",
        "auto eth0\niface eth0 inet static\n    address 10.0.0.9/24\n    gateway 10.0.0.254\n"
        "    post-up route add -net 10.7.0.0 netmask 255.255.0.0 gw 10.0.0.3 || true\n",
    )
    place.ip("link set eth0 up", "address add 10.0.0.9/24 dev eth0", "route add default via 10.0.0.254")
    place.ip("route add 10.7.0.0/16 via 10.0.0.3 dev eth0", "address add 192.0.2.8/32 dev eth0", "route add 10.6.0.0/16 via 10.0.0.3 dev eth0")
    done = place.apply(document(link(0), static(0, "10.0.0.5/24", "10.0.0.1")))
    assert done.status == 0, done
    assert place.addresses("eth0") == ["10.0.0.5/24", "192.0.2.8/32"]
    assert place.routes("eth0") == ["4: 10.6.0.0/16 via 10.0.0.3", "4: default via 10.0.0.1"]


@pytest.mark.parametrize("version", ENDS)
def test_lang_c_and_ids_that_are_not_ascii(place: Place, version: str) -> None:
    said = document(
        {**link(0), "id": "порт-é-\n\u202e"},
        {**static(0, "10.0.0.5/24"), "link": "порт-é-\n\u202e"},
        {**link(1), "id": "名前"},
        {**static(1, "10.1.0.5/24"), "link": "名前", "netmask": "вот"},
    )
    for words in (["apply", base64.b64encode(json.dumps(said).encode()).decode()], ["apply", "-"]):
        done = place.run(*words, text=json.dumps(said, ensure_ascii=False).encode("utf-8"))
        assert done.status == 1, done
        assert place.addresses("eth0") == ["10.0.0.5/24"]
        # From 3.7 on Python takes LC_ALL=C for UTF-8 (PEP 538); before, what ASCII has not is spelled out.
        assert ("\\u540d\\u524d" if done.out.isascii() else "名前") in done.out
        assert done.out.isascii() == (version == "2.7")
        assert f"MAC {MACS[1]}): not a netmask" in done.out
        assert len(done.out.splitlines()) == 2 + ("wrote" in done.out), "an id made a line of its own"


def test_utf_8_is_shown_as_it_is_where_the_terminal_says_so(place: Place) -> None:
    said = document({**link(1), "id": "порт", "mtu": "x"})
    done = place.run("apply", "-", text=json.dumps(said).encode(), env={"PYTHONIOENCODING": "utf-8"})
    assert "порт" in done.out, done


@pytest.mark.parametrize("version", ENDS)
def test_a_push_of_200_kilobytes(place: Place, version: str) -> None:
    said = document(link(0), static(0, "10.0.0.5/24"))
    for n in range(900):
        mac = f"fa:16:3f:00:{n // 256:02x}:{n % 256:02x}"
        said["links"].append({"id": f"other{n}", "ethernet_mac_address": mac, "type": "ovs", "mtu": 1450})
        said["networks"].append({"id": f"n{n}", "link": f"other{n}", "type": "ipv4", "ip_address": "10.5.0.1", "netmask": "24"})
    raw = base64.encodebytes(json.dumps(said).encode())
    assert len(raw) > 200_000
    done = place.run("apply", "-", text=raw)
    assert done.status == 0, done.err
    assert place.addresses("eth0") == ["10.0.0.5/24"]
    assert done.out.count("absent") == 900


@pytest.mark.parametrize("version", ENDS)
def test_bad_input_changes_nothing(place: Place, version: str) -> None:
    before = place.files()
    for words, text, status in (
        (["apply", "e30="], b"", 3),
        (["apply", "é"], b"", 3),
        (["apply", "-"], b"", 3),
        (["apply", "-"], b'{"links": 7}', 3),
        (["apply"], b"", 2),
        (["apply", "e30=", "e30="], b"", 2),
        (["apply", "--no-such", "e30="], b"", 2),
        (["aply"], b"", 2),
        ([], b"", 2),
    ):
        done = place.run(*words, text=text)
        assert (done.status, done.out) == (status, ""), (words, done)
        assert done.err
    assert place.addresses("eth0") == []
    assert place.files() == before


def test_a_bad_link_and_an_absent_one_cost_themselves(place: Place) -> None:
    said = document(link(0), link(1, mtu=10), link(2), static(0, "10.0.0.5/24"), static(1, "10.1.0.5/24"), static(2, "10.2.0.5/24"))
    done = place.apply(said)
    assert done.status == 1
    assert place.addresses("eth0") == ["10.0.0.5/24"]
    assert place.addresses("eth1") == []
    assert f"refused: links[1].mtu (link tap1, MAC {MACS[1]}): not a number from 68 to 65535: 10" in done.out
    assert f"{MACS[2]}  absent: no NIC has this MAC" in done.out
    assert "eth1" not in place.read("etc/network/interfaces")


def test_a_mtu_that_the_device_refuses_costs_nothing_else(place: Place) -> None:
    limit_mtu(place.namespace, "peer-00")
    done = place.apply(document(link(0, mtu=8950), link(1), static(0, "10.0.0.5/24", "10.0.0.1"), static(1, "10.1.0.5/24")))
    assert done.status == 1
    assert "failed: lacks MTU 8950 (has 1500) (ip link set dev eth0 mtu 8950: " in done.out
    assert place.addresses("eth0") == ["10.0.0.5/24"]
    assert place.routes("eth0") == ["4: default via 10.0.0.1"]
    assert place.addresses("eth1") == ["10.1.0.5/24"]


def test_an_address_that_the_kernel_refuses_leaves_the_nic_as_it_was(place: Place) -> None:
    assert place.apply(document(link(0), static(0, "10.0.0.5/24", "10.0.0.1"))).status == 0
    files = place.files()
    place.run_sysctl("net.ipv6.conf.eth0.disable_ipv6=1")
    done = place.apply(document(link(0), static(0, "10.0.0.7/24", "10.0.0.1"), static(0, "2001:db8::5/64")))
    assert done.status == 1
    assert "2001:db8::5/64" in done.out
    assert place.addresses("eth0") == ["10.0.0.5/24"]
    assert place.routes("eth0") == ["4: default via 10.0.0.1"]
    assert place.files()["etc/network/interfaces"] == files["etc/network/interfaces"]


def test_a_default_route_of_a_nic_that_others_configure_stays_the_best(place: Place) -> None:
    place.ip("link set eth1 up", "address add 10.1.0.5/24 dev eth1", "route add default via 10.1.0.1")
    done = place.apply(document(link(0), static(0, "10.0.0.5/24", "10.0.0.1")))
    assert done.status == 0, done
    assert place.routes("eth0") == ["4: default via 10.0.0.1 metric 2100"]
    assert place.routes("eth1") == ["4: default via 10.1.0.1"]


def test_the_primary_keeps_its_place_when_another_document_names_it_last(place: Place) -> None:
    first = document(link(1), static(1, "10.1.0.5/24", "10.1.0.1"))
    assert place.apply(first).status == 0
    both = document(link(0), link(1), static(0, "10.0.0.5/24", "10.0.0.1"), static(1, "10.1.0.5/24", "10.1.0.1"))
    assert place.apply(both).status == 0
    assert place.routes("eth1") == ["4: default via 10.1.0.1"]
    assert place.routes("eth0") == ["4: default via 10.0.0.1 metric 2100"]


def test_a_helpers_file_for_a_nic_that_came_goes(place: Place) -> None:
    """Debian's cloud images (75-cloud-ifupdown.rules) have each NIC that comes ask for a lease."""
    place.write("run/network/interfaces.d/eth1", "allow-hotplug eth1\niface eth1 inet dhcp\n")
    place.write("run/network/ifstate", "lo=lo\neth9=eth9\n")
    assert place.apply(TWO).status == 0
    assert not (place.root / "run/network/interfaces.d/eth1").exists()
    assert sorted(place.read("run/network/ifstate").split()) == ["eth0=eth0", "eth1=eth1", "eth9=eth9", "lo=lo"]


def test_a_nic_in_a_bridge_is_left_to_it(place: Place) -> None:
    place.ip("link add br0 type bridge", "link set eth0 master br0")
    done = place.apply(document(link(0), static(0, "10.0.0.5/24")))
    assert done.status == 0
    assert "left alone: eth0 belongs to br0" in done.out
    assert place.addresses("eth0") == []


def test_two_nics_with_one_mac_are_told_apart_or_left(place: Place) -> None:
    place.ip(f"link add other address {MACS[0]} type veth peer name opeer")
    done = place.apply(document(link(0), link(1), static(0, "10.0.0.5/24"), static(1, "10.1.0.5/24")))
    assert done.status == 1
    assert "several NICs have this MAC: eth0, other" in done.out
    assert place.addresses("eth1") == ["10.1.0.5/24"]


@pytest.mark.parametrize("version", ENDS)
def test_a_dry_run_does_nothing_and_tells_all(place: Place, version: str) -> None:
    before = place.files()
    done = place.apply(TWO, "--dry-run")
    assert done.status == 0
    assert "would run: ip addr add 10.0.0.5/24 dev eth0 brd 10.0.0.255" in done.out
    assert "+    address 10.0.0.5" in done.out
    assert "iface eth0 inet dhcp" in done.out
    assert place.addresses("eth0") == []
    assert place.files() == before
    assert done.commands() == []


def test_killed_at_any_moment_the_next_run_ends_it(place: Place) -> None:
    """By one `ip` after the other, and by the file that is being written."""
    raw = json.dumps(TWO).encode()
    for moment in (0.04, 0.07, 0.1, 0.15, 0.25):
        place.run("apply", "-", text=raw, kill=moment)
        text = place.read("etc/network/interfaces")
        assert text == DEBIAN8 or text.count("osnetd-legacy: begin") == text.count("osnetd-legacy: end") == 1
        done = place.apply(TWO)
        assert done.status == 0, done
        assert_two(place)
        assert not [path for path in place.files() if "/." in path]
        assert place.run("uninstall", "--restore").status == 0
        assert place.read("etc/network/interfaces") == DEBIAN8
        place.ip("addr flush dev eth0", "addr flush dev eth1", "link set eth0 down", "link set eth1 down")


def test_another_run_is_waited_for_and_then_told(place: Place) -> None:
    import fcntl

    (place.root / "run" / "osnetd-legacy").mkdir()
    with open(place.root / "run" / "osnetd-legacy" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = place.apply(TWO, "--timeout", "1")
    assert done.status == 6
    assert "another run" in done.err
    assert place.addresses("eth0") == []


def test_without_a_network_configuration_that_it_knows_nothing_is_managed(place: Place) -> None:
    shutil.rmtree(place.root / "etc")
    assert place.apply(TWO).status == 5
    assert place.addresses("eth0") == []


def test_the_exit_statuses_are_those_of_the_package(legacy: ModuleType) -> None:
    """Who pushes to a fleet of both reads one table."""
    said = {name: value for name, value in vars(legacy).items() if name.startswith("EXIT_")}
    assert said == {
        "EXIT_OK": cli.EXIT_OK,
        "EXIT_FAILED": apply.EXIT_NIC_FAILED,
        "EXIT_USAGE": cli.EXIT_USAGE,
        "EXIT_REFUSED": apply.EXIT_REFUSED,
        "EXIT_NOT_MANAGED": apply.EXIT_NOT_MANAGED,
        "EXIT_BUSY": apply.EXIT_BUSY,
        "EXIT_BROKE_OFF": cli.EXIT_INTERNAL,
    }


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "one document please"),
        (("W10=", "W10="), 2, "one document please"),
        (("--nonsense", "W10="), 2, "no such option"),
        (("W10=",), 3, "refused, nothing was changed"),  # []
        (("%%%",), 3, "refused, nothing was changed"),
        (("e30=",), 3, "refused, nothing was changed"),  # {}
        (("--file", "/nowhere/document.json"), 3, "/nowhere/document.json: No such file or directory"),
        (("--file", "/"), 3, "/: Is a directory"),
    ],
)
def test_wrong_usage_and_a_refused_document_are_told_apart(place: Place, words: tuple[str, ...], status: int, said: str) -> None:
    before = place.files()
    done = place.run("apply", *words)
    assert (done.status, said in done.err) == (status, True), done
    assert place.files() == before


@pytest.mark.parametrize("version", ENDS)
def test_a_document_that_does_not_end_is_not_waited_for_forever(place: Place, version: str) -> None:
    """A pipe that is kept open, a FIFO that nobody opens, and no standard input at all."""
    before = place.files()
    pipe = place.root / "run" / "pipe"
    os.mkfifo(pipe)
    done = place.run("apply", "--timeout", "1", "--file", str(pipe))
    assert (done.status, done.out) == (6, "") and f"{pipe}: it does not end: 0 bytes came in 5 s" in done.err, done
    program = [place.python, "-B", str(PROGRAM), "--root", str(place.root), "apply", "--timeout", "1", "-"]
    reading, writing = os.pipe()
    os.write(writing, b"{")
    silent = subprocess.run(program, stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    os.close(reading)
    os.close(writing)
    assert silent.returncode == 6 and b"standard input: it does not end: 1 bytes came in 5 s" in silent.stderr, silent
    closed = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert closed.returncode == 3 and b"refused, nothing was changed: standard input" in closed.stderr, closed
    assert b"Traceback" not in closed.stderr
    assert place.files() == before


@pytest.mark.parametrize("backend", ["ifcfg", "netplan", "interfaces.d"])
def test_live_is_the_same_whatever_is_on_disk(place: Place, backend: str) -> None:
    done = place.apply(TWO)
    assert done.status == 0, done
    assert_two(place)
    before = place.files()
    again = place.apply(TWO)
    assert [command for command in again.commands() if command.startswith("ip")] == []
    assert place.files() == before


@pytest.mark.skipif(shutil.which("busybox") is None, reason="no busybox here (apt-get install busybox)")
def test_with_the_ip_of_busybox(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    done = place.apply_with_busybox(TWO)
    assert done.status == 0, done
    assert_two(place)


@pytest.mark.parametrize("version", ENDS)
def test_a_route_to_the_own_subnet_is_put_beside_the_kernels_own(place: Place, version: str) -> None:
    """By way of a gateway, as Ironic's documents have it."""
    done = place.apply(document(link(0), static(0, "10.0.0.5/24", "10.0.0.1", [("10.0.0.0/24", "10.0.0.1")])))
    assert done.status == 0, done
    assert "4: 10.0.0.0/24 via 10.0.0.1" in place.routes("eth0")
    assert "post-up ip route append 10.0.0.0/24 via 10.0.0.1 dev eth0 || true" in place.read("/etc/network/interfaces")
    again = place.apply(document(link(0), static(0, "10.0.0.5/24", "10.0.0.1", [("10.0.0.0/24", "10.0.0.1")])))
    assert [command for command in again.commands() if command.startswith("ip")] == []
    gone = place.apply(document(link(0), static(0, "10.0.0.5/24", "10.0.0.1")))
    assert gone.status == 0 and place.routes("eth0") == ["4: default via 10.0.0.1"], gone
