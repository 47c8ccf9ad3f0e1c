# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""status: each state, and that reading it changes nothing."""

import json
import os
import time

import pytest

from cloudinit_osnetd.apply import pending_confirmation, rollback
from cloudinit_osnetd.backends.networkd.backend import Networkd
from cloudinit_osnetd.cloud_init import context
from cloudinit_osnetd.cloud_init.eligibility import NotManaged, RunContext
from cloudinit_osnetd.core import digest, plan, rejections, truth, truth_on_disk
from cloudinit_osnetd.core.desired import Item
from cloudinit_osnetd.core.records import Owned, Touch
from cloudinit_osnetd.kernel import netlink
from cloudinit_osnetd.planning import render
from cloudinit_osnetd.run import status
from cloudinit_osnetd.state import run_lock, store
from cloudinit_osnetd.system import files, paths

from .build import A, B, data, document, link, nic, one_nic, snapshot, static, vlan

BACKEND = Networkd()
ADDRESS = ["10.0.0.5/24"]
TEXT = "[Match]\nName=ens3\n"


def ground(ignore=()):
    settings = context.Settings(ignore=frozenset(ignore))
    return RunContext("i", context.Context("networkd", "", settings, {}), BACKEND)


def know(*said):
    known = truth.EMPTY
    for source, doc, now in said:
        known = truth.observe(known, source, data(doc), now)
    return known


def owned(path):
    mark = digest.of_text(BACKEND.normal(TEXT))
    return Owned(A + "/phy", A, "ens3", "networkd", path, "", mark, "d")


DOC = one_nic(static())
UP = nic("ens3", A, 2, ADDRESS)


def rows(known, *nics, ignore=(), ledger=()):
    state = store.empty("i", tuple(ledger))._replace(truth=known)
    view = status._View(ground(ignore), state, snapshot(*nics), frozenset())
    return {row.key or row.mac: row for row in status._rows(view)}


def test_nics_are_listed_as_the_kernel_has_them():
    known = know(("metadata", document([link("two", A), link("one", B)], []), 1.0))
    assert [row.name for row in rows(known, nic("ens4", A, 3), nic("ens3", B, 2)).values()] == ["ens3", "ens4"]


def state_of(*args, **fields):
    return rows(*args, **fields)[A + "/phy"].state


def test_ok(guest):
    row = rows(know(("metadata", DOC, 0)), UP)[A + "/phy"]
    assert (row.name, row.mac, row.state, row.source, row.addresses, row.reason) == (
        "ens3",
        A,
        "ok",
        "metadata",
        tuple(ADDRESS),
        "",
    )


def test_absent_is_an_entry_without_a_nic(guest):
    row = rows(know(("drive", DOC, 0)))[A + "/phy"]
    assert (row.name, row.state, row.source) == ("", "absent", "drive")


def test_pending_is_a_nic_without_an_entry(guest):
    found = rows(know(("drive", DOC, 0)), UP, nic("ens4", B, 3))
    assert (found[B].name, found[B].state, found[B].key) == ("ens4", "pending", "")


def test_an_ignored_nic_is_not_pending(guest):
    row = rows(know(("drive", DOC, 0)), UP, nic("ens4", B, 3), ignore=["ens4"])[B]
    assert (row.name, row.state) == ("ens4", "ignored")


def test_pending_says_when_it_is_looked_for_again(guest):
    now = time.monotonic()

    def reason(since, due):
        files.replace(paths.WAITING, json.dumps({"since": {B: since}, "due": due}))
        return rows(know(("drive", DOC, 0)), UP, nic("ens4", B, 3))[B].reason

    assert "next check in 2" in reason(now - 60, now + 30)
    assert "only at events, after 86400 s" in reason(now - 90000, 0.0)


def test_orphan_is_no_longer_listed_and_still_here(guest):
    known = know(("metadata", DOC, 0), ("metadata", document(), 1))
    assert state_of(known, UP) == "orphan"


def test_orphan_is_also_what_only_the_drive_still_lists(guest):
    known = know(("drive", DOC, 0), ("metadata", DOC, 1))
    assert state_of(known, UP) == "ok"
    assert state_of(know(("drive", DOC, 0), ("metadata", DOC, 1), ("metadata", document(), 2)), UP) == "orphan"


def test_doubted_went_back_to_what_was_superseded(guest):
    known = know(
        ("metadata", one_nic(static("10.0.0.6")), 0), ("metadata", DOC, 1), ("metadata", one_nic(static("10.0.0.6")), 2)
    )
    assert state_of(known, UP) == "doubted"


@pytest.mark.parametrize("ignore", [A, "ens3"])
def test_ignored_by_mac_or_by_name(guest, ignore):
    assert state_of(know(("drive", DOC, 0)), UP, ignore=[ignore]) == "ignored"


@pytest.mark.parametrize(
    ("there", "state"), [(TEXT, "ok"), ("# note\n" + TEXT, "ok"), (TEXT + "DHCP=yes\n", "drifted"), (None, "drifted")]
)
def test_drifted_is_changed_by_somebody_else(guest, there, state):
    path = str(guest / "ens3.network")
    if there is not None:
        files.replace(path, there)
    assert state_of(know(("drive", DOC, 0)), UP, ledger=[owned(path)]) == state


def test_drifted_is_also_what_the_last_run_found_made_by_somebody_else(guest):
    files.replace(paths.STATUS, json.dumps({"drifted": [{"key": A + "/phy"}]}))
    assert state_of(know(("drive", DOC, 0)), UP) == "drifted"


def test_a_drifted_nic_tells_why_and_in_what_it_differs(guest):
    drift = {"key": A + "/phy", "path": "/etc/x", "reason": "differs from what network_data says", "differs": ["+ mtu 1450"]}
    files.replace(paths.STATUS, json.dumps({"drifted": [drift]}))
    row = rows(know(("drive", DOC, 0)), UP)[A + "/phy"]
    assert (row.state, row.reason, row.differs) == ("drifted", "/etc/x: differs from what network_data says", ("+ mtu 1450",))


@pytest.mark.parametrize(
    ("there", "reason"),
    [(UP._replace(addresses=()), "the kernel lacks 10.0.0.5/24"), (UP._replace(up=False), "the link is down")],
)
def test_failed_is_what_the_kernel_lacks(guest, there, reason):
    row = rows(know(("drive", DOC, 0)), there)[A + "/phy"]
    assert (row.state, row.reason) == ("failed", reason)


def test_failed_is_also_what_the_last_run_could_not_do(guest):
    files.replace(paths.STATUS, json.dumps({"problems": {A: "no lease"}}))
    row = rows(know(("drive", DOC, 0)), UP)[A + "/phy"]
    assert (row.state, row.reason) == ("failed", "no lease")


@pytest.mark.parametrize(("link_id", "failed"), [(A, A + "/phy"), (A + "/vlan.7", A + "/vlan.7")])
def test_what_was_not_done_for_a_link_is_not_said_of_another_one_with_its_mac(guest, link_id, failed):
    files.replace(paths.STATUS, json.dumps({"problems": {link_id: "no lease"}}))
    doc = document([link(), vlan(id="v", vlan_id=7)], [static(), static("10.7.0.5", link="v")])
    device = nic("ens3.7", A, 9, ["10.7.0.5/24"], virtual=True, kind="vlan")
    found = rows(know(("drive", doc, 0)), UP, device)
    assert [(row.key, row.reason) for row in found.values() if row.state != "ok"] == [(failed, "no lease")]


@pytest.mark.parametrize(
    ("addresses", "state", "reason"),
    [(ADDRESS, "ok", "not confirmed yet"), ((), "failed", "not confirmed yet; the kernel lacks 10.0.0.5/24")],
)
def test_what_is_not_confirmed_yet_is_on_trial(guest, addresses, state, reason):
    known = know(("metadata", DOC, 0))
    item = Item(A + "/phy", known.keys[A + "/phy"].entry, "ens3", ())
    unit = rollback.Unit((item,), plan.Plan((), (), ()), plan.Plan((), (), ()))
    note = pending_confirmation.write([unit], rollback.NOTHING_REACHABLE, {}, known, 0.0)
    noted = store.empty("i")._replace(truth=known, on_trial=note)
    (row,) = status._rows(status._View(ground(), noted, snapshot(nic("ens3", A, 2, addresses)), frozenset()))
    assert (row.state, row.reason) == (state, reason)


def test_a_vlan_is_absent_with_its_parent_and_ok_with_it(guest):
    doc = document([link(), vlan(id="v", vlan_id=7)], [static(), static("10.7.0.5", link="v")])
    assert rows(know(("drive", doc, 0)))[A + "/vlan.7"].state == "absent"
    device = nic("ens3.7", A, 9, ["10.7.0.5/24"], virtual=True, kind="vlan")
    assert rows(know(("drive", doc, 0)), UP, device)[A + "/vlan.7"].name == "ens3.7"
    lost = rows(know(("drive", doc, 0)), UP)[A + "/vlan.7"]
    assert (lost.name, lost.state, lost.reason) == ("ens3.7", "failed", "ens3.7 does not exist")


@pytest.mark.parametrize("lasting", [True, False], ids=["by an operator", "by itself"])
def test_a_vlan_that_was_rolled_back_is_not_its_parent(guest, lasting):
    doc = document([link(), vlan(id="v", vlan_id=7)], [static(), static("10.7.0.5", link="v")])
    known, key = know(("push", doc, 0)), A + "/vlan.7"
    refuse = rejections.lasting if lasting else rejections.add
    more = (frozenset(), "as before run 1", time.time()) if lasting else ("as before run 1", 900.0, time.time())
    state = store.empty("i")._replace(truth=known, rejections=refuse((), known, {key: None}, *more))
    shown = {row.key: row for row in status._rows(status._View(ground(), state, snapshot(UP), frozenset()))}
    assert (shown[key].name, shown[key].addresses) == ("", ())
    assert shown[key].state == ("ok" if lasting else "failed") and "as before run 1" in shown[key].reason
    assert (shown[A + "/phy"].name, shown[A + "/phy"].addresses) == ("ens3", tuple(ADDRESS))


# -- the whole report ------------------------------------------------------------------------------------------


@pytest.fixture
def here(guest, monkeypatch):
    monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(UP))
    monkeypatch.setattr(status, "run_context", lambda remember: ground())
    return guest


def tree(root):
    return sorted(os.path.join(d, name) for d, _dirs, names in os.walk(str(root)) for name in names)


def test_what_the_last_run_found_wrong_with_a_link_is_reported_for_its_nic(guest):
    bad = document([link(), link(B, "tap2", mtu="x")], [static()], [{"type": "dns", "address": "x"}])
    said = "links[%d].mtu (link tap%d, MAC %s): not a number from 68 to 65535: 'x'"
    seen = rows(know(("metadata", bad, 0)), UP, nic("ens4", B, 3))
    assert (seen[B].state, seen[B].reason) == ("failed", said % (1, 2, B))
    assert seen[A + "/phy"].reason == ""
    row = rows(know(("metadata", DOC, 0), ("metadata", one_nic(static(), mtu="x"), 1)), UP)[A + "/phy"]
    # It was configured before, keeps that, and is not ok: no edit reaches it.
    assert (row.state, row.addresses) == ("failed", tuple(ADDRESS))
    assert row.reason == "its new entry is refused, its last valid entry is kept: " + said % (0, 1, A)


def test_what_is_wrong_with_a_source_is_kept_with_what_it_said(here):
    bad = document([link(mac="x"), vlan(parent="gone")], [], [{"type": "dns", "address": "y"}])
    known = truth_on_disk.from_json(json.loads(json.dumps(truth_on_disk.to_json(know(("drive", bad, 0))))))
    store.save(store.empty("i")._replace(truth=known))
    report = status.read()
    assert report["faults"] == [
        "drive: links[0].ethernet_mac_address (link tap1): not a MAC address: 'x'",
        "drive: links[1].vlan_link (link vlan1, MAC %s): no link has the id 'gone'" % A,
        "drive: services[0]: not an IP address: 'y'",
    ]
    assert [(row["key"], row["state"]) for row in report["nics"] if row["key"]] == [(A + "/vlan.100", "failed")]


@pytest.mark.parametrize(
    "bad",
    [
        one_nic(static(), mtu=1),
        one_nic(static("10.0.0.300")),
        one_nic(static(netmask="255.0.255.0")),
        one_nic(static(gateway="10.0.0.255")),
        one_nic(static(type="ipv5")),
        one_nic(static(services=[{"type": "dns", "address": "x"}])),
        one_nic(static(routes=[{"network": "10.9.0.0/33", "gateway": "10.0.0.1"}])),
    ],
)
@pytest.mark.parametrize("source", ["metadata", "drive"])
def test_a_later_document_that_is_refused_is_reported_for_the_nic_that_keeps_its_network(guest, source, bad):
    row = rows(know((source, DOC, 0), (source, bad, 1)), UP)[A + "/phy"]
    assert row.state == "failed"
    assert "link tap1, MAC %s" % A in row.reason
    assert "its last valid entry is kept" in row.reason
    assert rows(know((source, DOC, 0), (source, bad, 1), (source, DOC, 2)), UP)[A + "/phy"].state == "ok"


def test_a_drive_that_was_always_wrong_says_nothing_of_a_nic_of_which_others_know_better(guest):
    bad = one_nic(static(), mtu=1)
    known = know(("metadata", DOC, 0), ("drive", bad, 1))
    assert state_of(known, UP) == "ok"


def test_what_is_refused_is_reported_for_a_drifted_nic_too(guest):
    path = str(guest / "x.network")
    row = owned(path)
    files.replace(path, TEXT + "[Link]\nMTUBytes=1400\n")
    seen = rows(know(("metadata", DOC, 0), ("metadata", one_nic(static(), mtu=1), 1)), UP, ledger=[row])[A + "/phy"]
    assert seen.state == "drifted"
    assert "links[0].mtu" in seen.reason


def test_what_an_adopted_file_does_not_say_is_reported_until_it_is_written_anew(guest):
    path = str(guest / "x.network")
    files.replace(path, TEXT)
    row = owned(path)._replace(plain=True, unsaid="dns 10.0.0.2")
    known = know(("metadata", DOC, 0))
    seen = rows(known, UP, ledger=[row])[A + "/phy"]
    assert (seen.state, seen.findings) == ("ok", (path + " lacks dns 10.0.0.2: it is written at the next boot or edit",))
    assert rows(known, UP, ledger=[row._replace(plain=False)])[A + "/phy"].findings == ()


@pytest.mark.parametrize("text", ["metadata via ens3: network_data: not JSON: x", "network_data.links: not a list"])
def test_a_document_that_is_refused_whole_is_reported(here, text):
    store.save(store.empty("i")._replace(truth=know(("metadata", DOC, 0))))
    files.replace(paths.STATUS, json.dumps({"faults": [text, "metadata via ens3: timed out"]}))
    assert status.read()["faults"] == [text]


def test_a_link_that_leans_on_a_refused_one_says_so(guest):
    bad = document([link(mtu="x"), vlan(B)], [static(), static("10.1.0.5", link="vlan1")])
    row = rows(know(("metadata", bad, 0)), UP)[B + "/vlan.100"]
    assert row.state == "failed"
    assert "links[0].mtu (link tap1, MAC %s)" % A in row.reason


def test_looking_writes_nothing(here):
    store.save(store.empty("i")._replace(truth=know(("drive", DOC, 0)), answered=A))
    before = tree(here)
    report = status.read()
    assert [row["state"] for row in report["nics"]] == ["ok"]
    assert (report["backend"], report["metadata_via"], report["boot"]) == ("networkd", A, {"level": "none"})
    assert tree(here) == before
    json.dumps(report)


def test_the_fallback_level_that_served_this_boot_is_reported(here):
    files.replace(paths.BOOT, '{"level": "store"}')
    assert status.read()["boot"]["level"] == "store"


def test_hands_off_says_why_and_still_reports(here, monkeypatch):
    def off(remember):
        raise NotManaged("the network is disabled by the kernel command line")

    monkeypatch.setattr(status, "run_context", off)
    report = status.read()
    assert report["hands_off"] == "the network is disabled by the kernel command line"
    assert report["nics"] == []


def test_the_fingerprint_of_a_part_is_that_of_its_meaning(guest):
    path = str(guest / "x.network")
    files.replace(path, "# note\n\n" + TEXT)
    assert render.disk_parts(BACKEND, [(path, "")]) == {(path, ""): owned(path).disk}
    assert render.disk_parts(BACKEND, [(path + "-gone", "")]) == {}


# -- while a run is at work --------------------------------------------------------------------------------------


@pytest.fixture
def committing(guest, monkeypatch):
    """A commit that has written its file, and whose backend is bringing the NIC up; what the kernel shows of it."""
    path, new = str(guest) + "/10-cloud-init-ens3.network", "[Match]\nName=ens3\n[Network]\nDHCP=no\n"
    before = owned(path)
    after = before._replace(disk=digest.of_text(BACKEND.normal(new)))
    store.save(store.empty("i", (before,))._replace(truth=know(("metadata", DOC, 0))))
    store.write_intent(store.Intent((Touch("reconfigure", A, "ens3", "its entry changed"),), (after,), (after.place,)))
    files.replace(path, new)
    monkeypatch.setattr(status, "run_context", lambda remember: ground())

    def rows(addresses):
        monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(nic("ens3", A, 2, addresses)))
        (row,) = status.read()["nics"]
        return row["state"], row["reason"]

    return rows


def test_a_nic_that_a_run_is_bringing_up_is_neither_drifted_nor_failed(committing):
    with run_lock.locked():
        assert committing(()) == ("pending", "a run is bringing it up: the kernel lacks 10.0.0.5/24")
        assert committing(ADDRESS) == ("ok", "")
    assert committing(()) == ("failed", "the kernel lacks 10.0.0.5/24"), "the run has died"
    assert committing(ADDRESS) == ("ok", "")


def test_a_status_is_of_one_moment(committing, monkeypatch):
    """The commit ends while status reads: the store with the old rows, and then no intent."""
    real, count = store.load, []

    def load(instance_id):
        state = real(instance_id)
        count.append(1)
        if len(count) == 1:
            store.save(state._replace(ledger=store.read_intent().ledger))
            store.clear_intent()
        return state

    monkeypatch.setattr(store, "load", load)
    assert committing(ADDRESS) == ("ok", "")
    assert len(count) == 2
