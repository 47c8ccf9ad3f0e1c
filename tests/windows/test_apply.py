# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`apply` on a Windows Python: a namespace's NICs, read by IP Helper, changed by a stand-in for netsh."""

from __future__ import annotations

import base64
import json

import pytest

from tests.windows.conftest import MACS, document, link, static
from tests.windows.machine import Windows

ONE = document(
    link(0),
    static(0, "192.0.2.10/24", "192.0.2.1", [("198.51.100.0/24", "192.0.2.2")]),
    static(0, "192.0.2.11/24"),
    static(0, "2001:db8::10/64", "2001:db8::1"),
    dns=["192.0.2.53", "2001:db8::53", "192.0.2.54"],
)


def dns(windows: Windows, service: str = "Tcpip") -> str:
    done = windows.inside(["/usr/lib/wine/wine64", "reg", "query", f"HKLM\\SYSTEM\\CurrentControlSet\\Services\\{service}", "/s"])
    lines = [line.split("REG_SZ")[1].strip() for line in done.out.splitlines() if "NameServer" in line and "REG_SZ" in line]
    return lines[-1] if lines else ""


def test_a_push_configures_a_nic_and_the_second_runs_no_command(windows: Windows) -> None:
    first = windows.apply(ONE)
    assert first.status == 0, first
    assert windows.addresses(windows.first) == ["192.0.2.10/24", "192.0.2.11/24", "2001:db8::10/64"]
    assert windows.routes(windows.first) == [
        "198.51.100.0/24 via 192.0.2.2",
        "default via 192.0.2.1",
        "default via 2001:db8::1",
    ]
    assert windows.mtu(windows.first) == 1450
    assert dns(windows) == "192.0.2.53,192.0.2.54"
    assert dns(windows, "Tcpip6") == "2001:db8::53"
    assert windows.addresses(windows.second) == []
    calls = len(windows.netsh.calls)
    assert calls == len([line for line in first.out.splitlines() if "+ netsh" in line])
    again = windows.osnetd("apply", base64.b64encode(json.dumps(ONE).encode()).decode())
    assert again.status == 0, again
    assert "nothing to do" in again.out
    assert len(windows.netsh.calls) == calls


def test_a_netsh_that_says_that_it_did_it_and_does_nothing_is_found_out(windows: Windows) -> None:
    (first,) = windows.json("link", "show", "dev", windows.first)
    windows.netsh.lies = f"(interface|name)={first['ifindex']} "
    said = document(*ONE["links"], link(1), *ONE["networks"], static(1, "203.0.113.5/24"), dns=["192.0.2.53"])
    done = windows.apply(said)
    assert done.status == 1, done
    assert windows.addresses(windows.first) == []
    assert windows.addresses(windows.second) == ["203.0.113.5/24"]
    for words in ("mtu=1450", "192.0.2.10 ", "192.0.2.11 ", "2001:db8::10/64", "198.51.100.0/24", "set dnsservers"):
        assert any("! not done: netsh" in line and words in line for line in done.out.splitlines()), (words, done)


@pytest.mark.parametrize("words", ["add address .*192.0.2.11", "dnsservers"])
def test_one_command_that_does_nothing_is_found_out_and_done_at_the_next_push(windows: Windows, words: str) -> None:
    two = document(link(0, mtu=None), static(0, "192.0.2.10/24"), static(0, "192.0.2.11/24"), dns=["192.0.2.53"])
    windows.netsh.lies = words
    assert windows.apply(two).status == 1
    windows.netsh.lies = None
    done = windows.apply(two)
    assert (done.status, done.out.count("+ netsh")) == (0, 1), done
    assert windows.addresses(windows.first) == ["192.0.2.10/24", "192.0.2.11/24"]


def test_a_netsh_that_fails_costs_that_nic_and_its_words_are_reported(windows: Windows) -> None:
    windows.netsh.fails = "198.51.100.0"
    done = windows.apply(document(*ONE["links"], link(1), *ONE["networks"], static(1, "203.0.113.5/24")))
    assert done.status == 1, done
    assert "The parameter is incorrect." in done.out
    assert windows.addresses(windows.second) == ["203.0.113.5/24"]


def test_an_edit_takes_away_what_was_ours_and_no_more(windows: Windows) -> None:
    assert windows.apply(ONE).status == 0
    windows.ip(
        f"address add 192.0.2.200/24 dev {windows.first}",
        f"route add 203.0.113.0/24 via 192.0.2.9 dev {windows.first}",
        f"address add 203.0.113.77/24 dev {windows.second}",
    )
    edited = document(link(0, mtu=1400), static(0, "192.0.2.11/24", "192.0.2.254"), dns=["192.0.2.99"])
    done = windows.apply(edited)
    assert done.status == 0, done
    assert windows.addresses(windows.first) == ["192.0.2.11/24", "192.0.2.200/24"]
    assert windows.routes(windows.first) == ["203.0.113.0/24 via 192.0.2.9", "default via 192.0.2.254"]
    assert windows.addresses(windows.second) == ["203.0.113.77/24"]
    assert (windows.mtu(windows.first), dns(windows)) == (1400, "192.0.2.99")


def test_a_nic_that_is_absent_and_a_bad_link_cost_themselves(windows: Windows) -> None:
    bad = static(2, "192.0.2.300/24")
    said = document(link(1), static(1, "203.0.113.5/24"), link(5), static(5, "192.0.2.5/24"), link(2), bad)
    done = windows.apply(said)
    assert done.status == 1, done
    assert "192.0.2.300" in done.out and "tap2" in done.out and MACS[2] in done.out
    assert windows.addresses(windows.second) == ["203.0.113.5/24"]
    absent = windows.apply(document(link(1), static(1, "203.0.113.5/24"), link(5), static(5, "192.0.2.5/24")))
    assert absent.status == 0, absent
    assert "absent" in absent.out


# Each in the process that the others are in: the start of one under Wine is all that takes time here.
_REFUSE = """
import io, json, sys
from cloudinit_osnetd.windows import cli
for words, raw in json.loads(sys.argv[1]):
    sys.stdin = None if raw is None else io.TextIOWrapper(io.BytesIO(raw.encode()))
    print(cli.main(["apply", *words]))
"""


def test_what_is_no_document_is_refused_and_changes_nothing(windows: Windows) -> None:
    cases = [(["--stdin"], raw) for raw in ("", "%%%", "{}", "[1", '{"links": []}', "bm90IGpzb24=", None)]
    cases += [(["--file", name], "") for name in ("C:\\nowhere.json", "C:\\", "")]
    done = windows.python("-c", _REFUSE, json.dumps(cases))
    told = done.err.splitlines()
    assert (done.status, done.out.split()) == (0, ["2"] * len(cases)), done
    assert len(told) == len(cases) and all("refused, nothing was changed: " in line for line in told), done
    for line, words in zip(told[-4:], ("standard input: it is closed", "nowhere.json: ", "C:\\: ", "--file '': ")):
        assert words in line, done
    done = windows.osnetd("apply", "--stdin", text=b'{"links": 7}')
    assert (done.status, "nothing was changed" in done.err) == (2, True), done
    assert windows.netsh.calls == []


def test_a_push_of_200_kilobytes(windows: Windows) -> None:
    many = [static(0, f"10.{n // 250}.{n % 250}.7/24") for n in range(3)]
    said = document(link(0), *many, dns=["192.0.2.53"])
    said["padding"] = "x" * 200_000
    done = windows.osnetd("apply", "--stdin", text=base64.b64encode(json.dumps(said).encode()))
    assert done.status == 0, done
    assert windows.addresses(windows.first) == ["10.0.0.7/24", "10.0.1.7/24", "10.0.2.7/24"]


def test_a_name_in_cyrillic_is_reported(windows: Windows) -> None:
    done = windows.apply(document(link(1), static(1, "203.0.113.5/24")))
    assert done.status == 0, done
    assert f"{windows.second} ({MACS[1]}): ok" in done.out
    assert windows.addresses(windows.second) == ["203.0.113.5/24"]
    as_json = json.loads(windows.apply(document(link(1), static(1, "203.0.113.5/24")), "--json").out)
    assert as_json["links"][0]["name"] == windows.second


def test_a_dry_run_runs_nothing(windows: Windows) -> None:
    done = windows.apply(ONE, "--dry-run")
    assert done.status == 0, done
    assert "netsh interface ipv4 set address" in done.out
    assert windows.netsh.calls == []
    assert windows.addresses(windows.first) == []


def test_dhcp_is_switched_on_and_off(windows: Windows) -> None:
    lease = {"id": "lease", "link": "tap0", "type": "ipv4_dhcp"}
    assert windows.apply(ONE).status == 0
    assert windows.netsh.static4
    done = windows.apply(document(link(0), lease))
    assert done.status == 0, done
    assert not windows.netsh.static4
    assert "no DHCP lease yet" in done.out
    assert windows.addresses(windows.first) == []
    assert windows.apply(ONE).status == 0
    assert "192.0.2.10/24" in windows.addresses(windows.first)


def test_the_second_nic_has_a_metric_and_a_gateway_off_the_subnet_a_route(windows: Windows) -> None:
    both = document(
        link(0), static(0, "192.0.2.10/32", "203.0.113.1"), link(1), static(1, "198.51.100.5/24", "198.51.100.1")
    )
    done = windows.apply(both)
    assert done.status == 0, done
    assert "203.0.113.1" in windows.routes(windows.first) and "default via 203.0.113.1" in windows.routes(windows.first)
    assert any("prefix=0.0.0.0/0" in call and "metric=2100" in call for call in windows.netsh.calls)
    assert "nothing to do" in windows.apply(both).out


ON = {"link": "тап"}
RICH = document(
    link(1, id="тап"),
    static(1, "192.0.2.10/24", "192.0.2.1", **ON),
    static(1, "192.0.2.11/24", "", [("203.0.113.0/24", "192.0.2.9")], **ON),
    static(1, "10.95.0.5/32", "", [("10.96.0.0/16", "10.95.9.1")], **ON),
    static(1, "2001:db8:91::5/64", "fe80::1", **ON),
    static(1, "2001:db8:91::6/64", **ON),
    static(1, "2001:db8:92::5/128", "", [("2001:db8:96::/48", "2001:db8:9::1")], **ON),
    dns=["192.0.2.53", "2001:db8::53"],
)
RICH_ADDRESSES = ["10.95.0.5/32", "192.0.2.10/24", "192.0.2.11/24", "2001:db8:91::5/64", "2001:db8:91::6/64", "2001:db8:92::5/128"]
RICH_ROUTES = [
    "10.95.9.1", "10.96.0.0/16 via 10.95.9.1", "2001:db8:96::/48 via 2001:db8:9::1", "2001:db8:9::1", "203.0.113.0/24 via 192.0.2.9",
    "default via 192.0.2.1", "default via fe80::1",
]  # fmt: skip


def test_addresses_of_both_families_and_gateways_that_no_subnet_holds_on_a_nic_whose_name_is_in_cyrillic(windows: Windows) -> None:
    done = windows.apply(RICH)
    assert done.status == 0, done
    assert f"{windows.second} ({MACS[1]}): ok" in done.out
    assert windows.addresses(windows.second) == RICH_ADDRESSES
    assert windows.routes(windows.second) == sorted(RICH_ROUTES)
    calls = len(windows.netsh.calls)
    assert "nothing to do" in windows.apply(RICH).out
    assert len(windows.netsh.calls) == calls
    # And all of it goes again but what the next document says too.
    own = {"services": [{"type": "dns", "address": "192.0.2.99"}]}
    done = windows.apply(document(link(1, id="тап"), static(1, "192.0.2.11/24", **ON, **own)))
    assert done.status == 0, done
    assert windows.addresses(windows.second) == ["192.0.2.11/24"]
    assert windows.routes(windows.second) == []
    assert (dns(windows), dns(windows, "Tcpip6")) == ("192.0.2.99", "")


def test_a_link_is_renamed_only_where_that_is_asked(windows: Windows) -> None:
    said = document(link(1, name=f"public{windows.first}"), static(1, "203.0.113.5/24"))
    assert windows.apply(said).status == 0
    assert windows.json("link", "show", "dev", windows.second)
    windows.drive("C:\\ProgramData\\cloudinit-osnetd\\osnetd.json").write_text('{"rename": true}')
    windows.ip(f"link set {windows.second} down")  # Linux renames none that is up
    windows.apply(said)
    assert windows.json("link", "show", "dev", f"public{windows.first}")


def test_search_domains(windows: Windows) -> None:
    said = document(link(0), static(0, "192.0.2.10/24", services=[{"type": "dns", "address": "192.0.2.53", "search": ["a.example", "b.example"]}]))
    done = windows.apply(said)
    assert done.status == 0, done
    registry = windows.inside(["/usr/lib/wine/wine64", "reg", "query", "HKLM\\SYSTEM\\CurrentControlSet\\Services\\Tcpip\\Parameters", "/s"]).out
    assert "a.example,b.example" in registry
    assert "nothing to do" in windows.apply(said).out
    done = windows.apply(ONE)
    registry = windows.inside(["/usr/lib/wine/wine64", "reg", "query", "HKLM\\SYSTEM\\CurrentControlSet\\Services\\Tcpip\\Parameters", "/s"]).out
    assert "example" not in registry
