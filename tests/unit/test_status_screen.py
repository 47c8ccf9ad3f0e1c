# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The screen of status, word by word at 80 columns; and that no screen is wider than its terminal."""

import argparse
import importlib
import io
import json
import os
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd.commands import output
from cloudinit_osnetd.core import provisional, rejections
from cloudinit_osnetd.run import advice, source_status, status
from cloudinit_osnetd.state import store
from cloudinit_osnetd.system import files, paths

from .build import A, B, C, dns, document, link, nic, one_nic, snapshot, static
from .test_status import ground, know

command = importlib.import_module("cloudinit_osnetd.commands.status")

NOW = 1767225600.0  # 2026-01-01 00:00 UTC
PORTS = ["%08d-1111-4222-8333-444444444444" % number for number in range(9)]


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def row(name, mac, state, reason="", source="metadata", addresses=("10.0.0.5/24",), **more):
    found = status.NicStatus(name, mac, mac + "/phy", state, source, tuple(addresses), 1450, reason, **more)
    return dict(found._asdict())


def report(*rows, **more):
    sources = [
        {
            "source": "metadata", "listed": 3, "changed": NOW - 7200, "answered": True, "in_force": ["ens3", "ens4"],
            "superseded": {"ens5": "push changed later"}, "faults": [],
        },
        {
            "source": "drive", "listed": 1, "changed": NOW - 864000, "answered": True, "in_force": [],
            "superseded": {"ens3": "says the same as metadata"}, "faults": [],
        },
    ]  # fmt: skip
    base = {
        "instance_id": "0d1e2f3a-4b5c-4d6e-8f90-a1b2c3d4e5f6",
        "datasource": "ConfigDrive",
        "boot": {"level": "store"},
        "hands_off": "",
        "backend": "networkd",
        "metadata_via": A,
        "last_run": {"when": NOW - 65, "reasons": ["added"], "seconds": 0.84, "problems": {}, "touches": [
            {"action": "up", "mac": B, "name": "ens4", "reason": "a new NIC"}], "changes": []},
        "nics": list(rows),
        "sources": sources,
        "on_trial": [],
    }  # fmt: skip
    found = dict(base, **more)
    return dict(found, next=advice.next_steps(found))


GOLDEN = """\
instance    0d1e2f3a-4b5c-4d6e-8f90-a1b2c3d4e5f6 (ConfigDrive, networkd)
this boot   network config from fallback level: store
metadata    3 links; answered 65 s ago via ens3; last change 2025-12-31
            22:00:00; in force for ens3 ens4; not for ens5: push changed later
drive       1 link; last change 2025-12-22 00:00:00; not in force for ens3: says
            the same as metadata
on trial    ens4: until 2026-01-01 00:01:30 (90 s left); `cloudinit-osnetd
            confirm` keeps it
last run    2025-12-31 23:58:55 (65 s ago), added; ens4: done in 0.8 s

NIC   MAC                STATE    PORT
ens3  fa:16:3e:00:00:01  ok       00000000-1111-4222-8333-444444444444
    10.0.0.5/24, MTU 1450, from metadata
ens4  fa:16:3e:00:00:02  failed   00000001-1111-4222-8333-444444444444
    10.0.0.6/24, 2001:db8::6/64, MTU 1450
    rejected until 2026-01-01 00:15:00, because its gateway 10.0.0.1 does not
    answer any more
ens5  fa:16:3e:00:00:03  drifted  00000002-1111-4222-8333-444444444444
    no address, MTU 1450, from push
    /etc/systemd/network/10-cloud-init-ens5.network: changed externally
    + mtu 1450
    - mtu 1400

next        ens4: correct the port in OpenStack, or try the edit again with
            `cloudinit-osnetd reconcile --force`
next        ens5: see `cloudinit-osnetd plan --force --diff`; `reconcile
            --force` overwrites the edit
"""


def full():
    back = "rejected until 2026-01-01 00:15:00, because its gateway 10.0.0.1 does not answer any more"
    edited = "/etc/systemd/network/10-cloud-init-ens5.network: changed externally"
    trial = {"nics": ["ens4"], "until": NOW + 90, "ends": "`cloudinit-osnetd confirm` keeps it"}
    return report(
        row("ens3", A, "ok", port=PORTS[0]),
        row("ens4", B, "failed", back, addresses=["10.0.0.6/24", "2001:db8::6/64"], port=PORTS[1]),
        row("ens5", C, "drifted", edited, "push", (), differs=("+ mtu 1450", "- mtu 1400"), port=PORTS[2]),
        on_trial=[trial],
    )


def test_the_whole_screen_at_80_columns():
    assert "\n".join(command.screen(full(), NOW, 80, 0)) + "\n" == GOLDEN


def test_a_fault_of_the_metadata_service_names_it_once():
    silent = report(row("ens3", A, "ok"))
    silent["sources"][0].update(answered=False, faults=["metadata via ens3 (IPv6): timed out after 10 s"])
    assert "            fault: via ens3 (IPv6): timed out after 10 s" in command.screen(silent, NOW, 80, 0)


def test_the_metadata_service_is_asked_by_a_nic_whatever_has_its_mac_too():
    beside = dict(row("ens3.7", A, "ok"), key=A + "/vlan.7")
    lines = command.screen(report(row("ens3", A, "ok"), beside), NOW, 80, 0)
    assert [line for line in lines if "answered 65 s ago via ens3;" in line]


def test_who_pushed_what_was_rejected_is_told_to_push_again():
    back = "rejected until 2026-01-01 00:15:00, because after the change not reachable: the gateway for 0.0.0.0/0 (10.0.0.77)"
    (step,) = report(row("ens4", B, "failed", back, "push"))["next"]
    assert step.startswith("ens4: push a corrected document, drop what was pushed with `cloudinit-osnetd apply --forget`")


def test_a_healthy_server_has_nothing_to_do_next():
    lines = command.screen(report(row("ens3", A, "ok", port=PORTS[0])), NOW, 80, 24)
    assert len(lines) <= 24 and not [line for line in lines if line.startswith("next")]


def test_a_server_that_is_not_managed_says_so_and_where_to_look():
    off = report(backend="", hands_off="the datasource is NoCloud, not OpenStack's", sources=[])
    assert command.screen(off, NOW, 80, 0) == [
        "instance    0d1e2f3a-4b5c-4d6e-8f90-a1b2c3d4e5f6 (ConfigDrive)",
        "this boot   network config from fallback level: store",
        "unmanaged   the datasource is NoCloud, not OpenStack's",
        "",
        "next        the network is not managed; `cloudinit-osnetd doctor` says what",
        "            could be wrong",
    ]


def test_nics_that_are_well_are_a_line_each_where_the_screen_is_short():
    many = [row("ens%d" % n, "fa:16:3e:00:01:%02x" % n, "ok") for n in range(8)] + [row("ens99", A, "failed", "no lease")]
    lines = command.screen(report(*many), NOW, 80, 24)
    assert len(lines) <= 24
    assert "    no lease" in lines and not [line for line in lines if line == "    10.0.0.5/24, MTU 1450, from metadata"][1:]
    assert len(command.screen(report(*many), NOW, 80, 0)) > 24


WORDS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=90)


@given(wide=st.integers(40, 200), name=st.text(max_size=15), reason=WORDS, fault=WORDS, address=WORDS)
def test_no_line_is_wider_than_the_terminal_whatever_others_write(wide, name, reason, fault, address):
    found = full()
    found["nics"][1].update(name=name, reason=reason, addresses=[address])
    found["sources"][0].update(faults=[fault], superseded={name: "x"})
    for line in command.screen(found, NOW, wide, 24):
        assert output.columns(line) <= wide
        assert all(char.isprintable() for char in line)


@pytest.mark.parametrize("wide", [1, 7, 20])
def test_a_terminal_too_narrow_for_anything_ends_all_the_same(wide):
    assert command.screen(full(), NOW, wide, 5)


# -- a terminal ------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, environment, out):
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(status, "read", full)
    command.main(argparse.Namespace(json=False, watch=None))
    return out.getvalue()


def test_colour_is_for_terminals_that_have_it(monkeypatch):
    assert "\033[31;1mfailed\033[0m" in shown(monkeypatch, {"TERM": "xterm", "COLUMNS": "80"}, Terminal())
    for environment, out in [
        ({"TERM": "xterm", "NO_COLOR": "1"}, Terminal()),
        ({"TERM": "dumb"}, Terminal()),
        ({"TERM": "xterm"}, io.StringIO()),
    ]:
        assert "\033" not in shown(monkeypatch, environment, out)


def test_colours_do_not_change_the_width(monkeypatch):
    told = shown(monkeypatch, {"TERM": "xterm", "COLUMNS": "80", "LINES": "60"}, Terminal())
    plain = re.sub("\033\\[[0-9;]*m", "", told)
    assert plain.splitlines()[9:] == GOLDEN.splitlines()[9:]


def test_where_nobody_set_a_width_no_line_is_broken(monkeypatch):
    told = shown(monkeypatch, {}, io.StringIO())
    assert full()["nics"][1]["reason"] in told


def test_watch_shows_it_again_until_ctrl_c(monkeypatch):
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(status, "read", full)
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert command.main(argparse.Namespace(json=False, watch=0.5)) == 1
    assert slept == [0.5] * 3 and out.getvalue().count("\033[2J") == 3


# -- sources ---------------------------------------------------------------------------------------------------------


def test_each_source_says_why_it_is_or_is_not_in_force():
    both = document([link(vif_id=PORTS[0]), link(B, "tap2")], [static(), static("10.0.1.5", link="tap2")])
    edit = document([link(vif_id=PORTS[0]), link(B, "tap2")], [static("10.0.0.9"), static("10.0.1.5", link="tap2")])
    known = know(("drive", both, 0), ("metadata", both, 1), ("metadata", edit, 2))
    state = store.empty("i")._replace(truth=known, changed={"metadata": 2.0})
    names = {A + "/phy": "ens3", B + "/phy": "ens4"}
    metadata, drive = source_status.sources(state, {"answered": {"metadata": True, "drive": False}}, names)
    assert (metadata["source"], metadata["in_force"], metadata["changed"], metadata["answered"]) == ("metadata", ["ens3"], 2.0, True)
    assert metadata["superseded"] == {"ens4": "says the same as drive"}
    assert (drive["in_force"], drive["superseded"], drive["answered"]) == (["ens4"], {"ens3": "metadata changed later"}, False)


def test_a_source_that_never_answered_is_shown_with_its_fault():
    faults = {"faults": ["metadata via ens3: timed out"], "answered": {"metadata": False}}
    (found,) = source_status.sources(store.empty("i"), faults, {})
    assert (found["source"], found["listed"], found["faults"]) == ("metadata", 0, ["metadata via ens3: timed out"])


@pytest.mark.parametrize("noted", [None, [], {}, {"answered": []}, {"answered": {"drive": "x"}, "faults": 7}, "x"])
def test_a_record_of_another_version_is_no_trouble(noted):
    (drive,) = source_status.sources(store.empty("i")._replace(truth=know(("drive", one_nic(static()), 0))), noted, {})
    assert drive["answered"] is None and drive["in_force"] == [A]


def test_the_port_of_a_nic_is_that_of_its_source(guest, monkeypatch):
    doc = document([link(vif_id=PORTS[1])], [static()], dns("10.0.0.2"))
    known = know(("drive", one_nic(static()), 0), ("metadata", doc, 1))
    store.save(store.empty("i")._replace(truth=known))
    monkeypatch.setattr(status.netlink, "snapshot", lambda: snapshot(nic("ens3", A, 2, ["10.0.0.5/24"])))
    monkeypatch.setattr(status, "run_context", lambda remember: ground())
    (found,) = status.read()["nics"]
    assert found["port"] == PORTS[1]
    files.replace(paths.STATUS, json.dumps({"when": 1, "answered": {"metadata": True}}))
    assert [source["answered"] for source in status.read()["sources"]] == [True, None]
    assert os.path.exists(paths.STORE)


@pytest.mark.parametrize("when", [float("nan"), float("inf"), 1e300, 10**400, -1e300], ids=repr)
def test_a_time_that_is_none_does_not_end_the_screen(when):
    assert output.time_text(when) == "-"


# -- what misleads a tired reader -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lasting", "said"), [(0, "rejected, its earlier configuration is used"), (1, "rolled back, its earlier configuration is used")])
def test_what_was_rejected_is_in_force_nowhere(lasting, said):
    before = know(("metadata", one_nic(static("10.0.0.4")), 0))
    known = know(("metadata", one_nic(static("10.0.0.4")), 0), ("metadata", one_nic(static()), 1))
    key = A + "/phy"
    refused = rejections.add((), known, {key: before.keys[key]}, "the router is silent", 900.0, time.time())
    state = store.empty("i")._replace(truth=known, rejections=tuple(one._replace(lasting=lasting) for one in refused))
    (metadata,) = source_status.sources(state, {}, {key: "ens3"})
    assert (metadata["in_force"], metadata["superseded"]) == ([], {"ens3": said})


@pytest.mark.parametrize("reason", ["rejected until 2026-01-01 00:15:00, because the router is silent", "rolled back: as before run 3, until its port changes or is pushed again"])
def test_what_a_nic_has_is_not_said_to_be_from_the_source_that_was_rejected(reason):
    shown = command.screen(report(row("ens3", A, "ok", reason)), NOW, 0, 0)
    assert "    10.0.0.5/24, MTU 1450" in shown and "    " + reason in shown


def test_the_last_run_names_its_nics_once():
    touches = [{"name": name, "mac": mac, "reason": "rolled back"} for name, mac in (("ens3", A), ("ens4", B))]
    run = {"when": NOW, "reasons": ["push"], "seconds": 30.6, "touches": touches, "problems": {}}
    assert command._run_text(run, NOW).endswith("push; rolled back: ens3, ens4 in 30.6 s")
    assert "push; changed ens3, ens4 in 30.6 s; rolled back: ens4" in command._run_text(dict(run, touches=[dict(touches[0], reason="its entry changed"), touches[1]]), NOW)


def test_a_trial_names_the_nics_that_it_is_about():
    """The global DNS of a push counts for every NIC, and means nothing to one whose network has DNS."""
    links = [link(), link(B, "tap2"), link(C, "tap3")]
    networks = [static(services=dns("10.0.0.2")), static("10.1.0.5", link="tap2", id="n2"), static("10.2.0.5", link="tap3", id="n3", services=dns("10.0.0.2"))]
    before = know(("drive", document(links, networks, dns("10.0.0.53")), 0))
    edited = [networks[0], networks[1], dict(networks[2], ip_address="10.2.0.6")]
    known = know(("drive", document(links, networks, dns("10.0.0.53")), 0), ("push", document(links, edited, dns("10.0.0.54")), 1))
    held = provisional.Provisional(4, "boot", 9e9, NOW, before, (), provisional.marks(known))
    state = store.empty("i")._replace(truth=known, provisional=provisional.write(held))
    (trial,) = status._on_trial(state, {A + "/phy": "ens3", B + "/phy": "ens4", C + "/phy": "ens5"})
    assert trial["nics"] == ["ens4", "ens5"]
