# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""plan: what is written, removed, adopted, forgotten, left alone; which NICs are touched, and why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd import __version__
from cloudinit_osnetd.core import plan
from cloudinit_osnetd.core.desired import Item, Want
from cloudinit_osnetd.core.plan import Staged
from cloudinit_osnetd.core.records import Owned, Touch

from .build import A, B, entry, nic, snapshot, static

BACKEND = "networkd"


def path(name):
    return "/etc/systemd/network/10-cloud-init-%s.network" % name


def want(mac=A, name="ens3", digest="d1", address="10.0.0.5"):
    one = entry(static(address), mac=mac)
    return Want((Item(one.key, one, name, ()),), digest)


def staged(mac=A, name="ens3", fingerprint="m1", digest="d1", file=None, section=""):
    return Staged(mac + "/phy", mac, name, file or path(name), section, "text of " + fingerprint, fingerprint, digest)


def owned(mac=A, name="ens3", disk="m1", digest="d1", backend=BACKEND, file=None, section=""):
    return Owned(mac + "/phy", mac, name, backend, file or path(name), section, disk, digest, by=__version__)


def rendered(row, text="text of m1"):
    """The row of a part that this version has rendered."""
    return row._replace(written=text)


def on_disk(*rows):
    return {row.place: row.disk for row in rows}


UP = nic("ens3", A, addresses=["10.0.0.5/24"])


def make(wants=(), parts=(), disk=None, ledger=(), nics=None, **options):
    return plan.make(wants, parts, disk or {}, ledger, nics, BACKEND, plan.Options(**options))


def told(made):
    return (
        [(c.action, c.name) for c in made.changes],
        [(t.action, t.name) for t in made.touches],
        [d.name for d in made.drifted],
    )


# -- a NIC that comes, changes and goes ---------------------------------------------------------------


def test_a_new_nic_is_written_and_brought_up():
    made = make([want()], [staged()])
    assert told(made) == ([("write", "ens3")], [("up", "ens3")], [])
    assert made.changes[0].row == rendered(owned())
    assert made.changes[0].text == "text of m1"


def test_what_stands_as_it_is_wanted_needs_nothing():
    made = make([want()], [], on_disk(owned()), [owned()], snapshot(UP))
    assert made.empty
    assert not made.drifted


def test_an_edited_entry_is_written_and_its_nic_reconfigured():
    made = make([want(digest="d2")], [staged(fingerprint="m2", digest="d2")], on_disk(owned()), [owned()])
    assert told(made) == ([("write", "ens3")], [("reconfigure", "ens3")], [])


def test_a_nic_that_gets_a_further_part_is_reconfigured():
    """As a first file of routes beside an ifcfg file: it is up, with what others gave it."""
    routes = staged(fingerprint="m2", file="/etc/x/route-ens3")
    made = make([want()], [staged(), routes], on_disk(owned()), [rendered(owned())])
    assert told(made) == ([("write", "ens3")], [("reconfigure", "ens3")], [])
    made = make([want()], [staged(), routes])
    assert told(made) == ([("write", "ens3")] * 2, [("up", "ens3")], [])


def test_an_edit_that_means_the_same_is_only_noted():
    made = make([want(digest="d2")], [staged(digest="d2")], on_disk(owned()), [owned()])
    assert told(made) == ([("adopt", "ens3")], [], [])
    assert made.changes[0].row == rendered(owned(digest="d2"), made.changes[0].text or "text of m1")


def test_a_nic_that_is_gone_is_removed_and_taken_down():
    made = make([], [], on_disk(owned()), [owned()])
    assert told(made) == ([("remove", "ens3")], [("down", "ens3")], [])
    assert made.changes[0].row is None


def test_a_part_on_which_somebody_has_built_stays():
    row = owned()
    made = make([], [], on_disk(row), [row], referred={"ens3": "ens3.100 of /etc/netplan/60-vlan.yaml"})
    assert told(made) == ([], [], ["ens3"])
    assert made.drifted[0].reason == "ens3.100 of /etc/netplan/60-vlan.yaml depends on it; the NIC is gone"
    assert told(make([], [], on_disk(row), [row], referred={"ens4": "x"})) == ([("remove", "ens3")], [("down", "ens3")], [])


def test_under_a_new_name_a_nic_is_configured_though_somebody_has_built_on_the_old_one():
    row = owned(name="ens4")
    made = make([want()], [staged()], on_disk(row), [row], referred={"ens4": "ens4.100 of x"})
    assert told(made) == ([("write", "ens3")], [("up", "ens3")], ["ens4"])


def test_what_is_gone_from_disk_too_is_forgotten_and_nothing_is_touched():
    assert told(make([], [], {}, [owned()])) == ([("forget", "ens3")], [], [])


@pytest.mark.parametrize("keep", [A, "ens3"])
def test_what_is_kept_is_not_cleaned_up(keep):
    assert told(make([], [], on_disk(owned()), [owned()], keep=frozenset([keep]))) == ([], [], [])


def test_a_want_that_could_not_be_rendered_stays_as_it_is():
    assert told(make([want(digest="d2")], [], on_disk(owned()), [owned()])) == ([], [], [])


def test_every_item_has_a_reason():
    made = make([want()], [staged()], on_disk(owned(B, "ens4")), [owned(B, "ens4")])
    assert {c.name: c.reason for c in made.changes} == {"ens3": "a new NIC", "ens4": "the NIC is gone"}
    assert {t.name: t.reason for t in made.touches} == {"ens3": "a new NIC", "ens4": "the NIC is gone"}


# -- a NIC of several parts -----------------------------------------------------------------------------------


def device(fingerprint="n1", **fields):
    return staged(name="bond0", fingerprint=fingerprint, file=path("bond0").replace(".network", ".netdev"))._replace(**fields)


def device_row(disk="n1", **fields):
    return owned(name="bond0", disk=disk, file=path("bond0").replace(".network", ".netdev"))._replace(**fields)


def test_each_part_is_owned_and_the_nic_is_touched_once():
    parts = [staged(name="bond0"), device()]
    made = make([want(name="bond0")], parts)
    assert told(made) == ([("write", "bond0"), ("write", "bond0")], [("up", "bond0")], [])
    rows = plan.ledger_after([], made.changes)
    assert {row.place for row in rows} == {part.place for part in parts}
    made = make([want(name="bond0", digest="d2")], [staged(name="bond0", digest="d2"), device("n2", digest="d2")], on_disk(*rows), rows)
    assert told(made) == ([("adopt", "bond0"), ("write", "bond0")], [("reconfigure", "bond0")], [])
    made = make([], [], on_disk(*rows), rows)
    assert told(made) == ([("remove", "bond0"), ("remove", "bond0")], [("down", "bond0")], [])


def test_a_nic_is_left_to_who_edited_one_of_its_parts():
    rows = [owned(name="bond0"), device_row()]
    disk = on_disk(rows[0], device_row("edited"))
    parts = [staged(name="bond0", fingerprint="m2", digest="d2"), device("n2", digest="d2")]
    made = make([want(name="bond0", digest="d2")], parts, disk, rows)
    assert told(made) == ([], [], ["bond0"])
    assert made.drifted[0].path == device_row().path
    assert len(make([want(name="bond0", digest="d2")], parts, disk, rows, force=True).changes) == 2


def test_a_part_that_cloud_init_does_not_write_waits_for_those_that_are_adopted_as_they_are():
    """A device is nothing without what joins its members to it, and no NIC is touched when we are installed."""
    parts = [staged(name="bond0", fingerprint="m2")._replace(alone=frozenset(["m1"])), device()]
    disk = {parts[0].place: "m1"}
    made = make([want(name="bond0")], parts, disk, nics=snapshot())
    assert told(made) == ([("adopt", "bond0")], [], [])
    made = make([want(name="bond0")], parts, disk)  # at the next boot
    assert told(made) == ([("write", "bond0"), ("write", "bond0")], [("reconfigure", "bond0")], [])


def test_a_part_that_cloud_init_writes_by_now_waits_for_those_that_are_adopted_as_they_are():
    """The release that wrote the others wrote none: a .netdev file, before 25.2."""
    parts = [staged(name="bond0", fingerprint="m2")._replace(alone=frozenset(["m1"])), device()._replace(alone=frozenset(["n0"]))]
    disk = {parts[0].place: "m1"}
    assert told(make([want(name="bond0")], parts, disk, nics=snapshot())) == ([("adopt", "bond0")], [], [])
    made = make([want(name="bond0")], parts, disk)  # at the next boot
    assert told(made) == ([("write", "bond0"), ("write", "bond0")], [("reconfigure", "bond0")], [])
    # A link of which nothing is there is no matter of a release.
    other = staged(name="ens4", mac=B, fingerprint="o2")._replace(alone=frozenset(["o1"]))
    made = make([want(name="bond0"), want(name="ens4", mac=B)], [parts[0], other], disk, nics=snapshot())
    assert ("write", "ens4") in told(made)[0]


# -- what is not ours ----------------------------------------------------------------------------------


def test_a_part_that_somebody_edited_is_left_alone_and_named():
    made = make([want(digest="d2")], [staged(fingerprint="m2", digest="d2")], {owned().place: "edited"}, [owned()])
    assert told(made) == ([], [], ["ens3"])


def test_a_part_that_somebody_deleted_is_left_alone_and_named():
    assert told(make([want()], [staged()], {}, [owned()])) == ([], [], ["ens3"])


def test_a_part_that_somebody_else_wrote_is_left_alone_and_named():
    made = make([want()], [staged()], {staged().place: "theirs"}, [])
    assert told(made) == ([], [], ["ens3"])
    assert made.drifted[0].reason == "not written by cloudinit-osnetd"


def test_a_part_that_means_what_is_wanted_is_adopted_and_no_nic_touched():
    made = make([want()], [staged()], {staged().place: "m1"}, [], snapshot(UP))
    assert told(made) == ([("adopt", "ens3")], [], [])
    assert made.changes[0].row == rendered(owned())


def test_an_edited_part_of_a_nic_that_is_gone_is_left_alone_and_named():
    assert told(make([], [], {owned().place: "edited"}, [owned()])) == ([], [], ["ens3"])


@pytest.mark.parametrize(("there", "action"), [("edited", "reconfigure"), (None, "up")])
def test_force_takes_back_what_somebody_edited_or_deleted(there, action):
    disk = {owned().place: there} if there else {}
    made = make([want()], [staged()], disk, [owned()], force=True)
    assert [one.reason for one in made.changes] == [("changed" if disk else "removed") + " externally, and overwritten"]
    assert told(made) == ([("write", "ens3")], [(action, "ens3")], [])


def test_force_removes_an_edited_part_of_a_nic_that_is_gone():
    made = make([], [], {owned().place: "edited"}, [owned()], force=True)
    assert told(made) == ([("remove", "ens3")], [("down", "ens3")], [])


def test_one_drifted_part_does_not_hold_up_the_other_nics():
    rows = [owned(), owned(B, "ens4")]
    disk = {rows[0].place: "edited", rows[1].place: "m1"}
    parts = [staged(fingerprint="m2", digest="d2"), staged(B, "ens4", "m3", "d2")]
    made = make([want(digest="d2"), want(B, "ens4", "d2")], parts, disk, rows)
    assert told(made) == ([("write", "ens4")], [("reconfigure", "ens4")], ["ens3"])


# -- what cloud-init wrote before us ----------------------------------------------------------------------

LIVE = snapshot(UP)
SAME = staged()._replace(same=frozenset(["same"]))


@pytest.mark.parametrize(
    ("ledger", "snapshot", "does"),
    [
        ([], LIVE, ([("adopt", "ens3")], [], [])),
        ([owned(disk="same", digest="d0")], LIVE, ([("adopt", "ens3")], [], [])),
        ([owned(disk="m0")], LIVE, ([("adopt", "ens3")], [], [])),
        ([], None, ([("write", "ens3")], [("reconfigure", "ens3")], [])),
        ([owned(disk="m0")], None, ([("write", "ens3")], [("reconfigure", "ens3")], [])),
    ],
    ids=["nobody's", "ours", "edited", "nobody's at boot", "edited at boot"],
)
def test_what_means_the_same_is_ours_and_no_nic_is_touched_for_it(ledger, snapshot, does):
    assert told(make([want()], [SAME], {SAME.place: "same"}, ledger, snapshot)) == does


@pytest.mark.parametrize(("ledger", "plain"), [([], True), ([owned(disk="m0", digest="d0")], False)])
def test_what_is_not_ours_to_the_letter_is_finished_at_a_boot(ledger, plain):
    (change,) = make([want()], [SAME], {SAME.place: "same"}, ledger, LIVE).changes
    assert change.row == rendered(owned(disk="same"))._replace(plain=plain)


@pytest.mark.parametrize(
    ("ledger", "differs", "reason"),
    [
        ([], (), "not written by cloudinit-osnetd"),
        ([], ("+ mtu 1450",), "differs from what network_data says"),
        ([owned(disk="m0")], ("+ mtu 1450",), "changed externally"),
    ],
)
def test_the_reason_is_what_is_known(ledger, differs, reason):
    part = staged()._replace(differs=differs)
    (drift,) = make([want()], [part], {part.place: "foreign"}, ledger, LIVE).drifted
    assert (drift.reason, drift.differs) == (reason, differs)


ALONE = staged()._replace(alone=frozenset(["alone"]), earlier=frozenset(["earlier"]))


@pytest.mark.parametrize(
    ("there", "nics", "done"),
    [
        ("alone", LIVE, ([("adopt", "ens3")], [], [])),
        ("alone", None, ([("write", "ens3")], [("reconfigure", "ens3")], [])),
        ("earlier", LIVE, ([("write", "ens3")], [("reconfigure", "ens3")], [])),
        ("earlier", None, ([("write", "ens3")], [("reconfigure", "ens3")], [])),
        ("a person", LIVE, ([], [], ["ens3"])),
    ],
)
def test_what_cloud_init_wrote_is_told_from_what_a_person_wrote(there, nics, done):
    assert told(make([want()], [ALONE], {ALONE.place: there}, [], nics)) == done


def test_what_cloud_init_wrote_is_adopted_as_it_stands_and_a_second_run_does_nothing():
    made = make([want()], [ALONE], {ALONE.place: "alone"}, [], LIVE)
    (row,) = plan.ledger_after([], made.changes)
    assert row == owned(disk="alone")._replace(plain=True, by="")
    assert not plan.needs_render(want(), [row], {row.place: "alone"}, BACKEND)
    assert plan.needs_render(want(digest="d2"), [row], {row.place: "alone"}, BACKEND)


@pytest.mark.parametrize(("nics", "action"), [(LIVE, "adopt"), (None, "write")])
def test_what_it_does_not_say_is_reported(nics, action):
    less = ALONE._replace(unsaid="dns 10.0.0.2; search example.com")
    (change,) = make([want()], [less], {ALONE.place: "alone"}, [], nics).changes
    assert change.action == action
    assert "cloud-init wrote it" in change.reason and ", without dns 10.0.0.2; search example.com" in change.reason
    assert change.row.unsaid == ("dns 10.0.0.2; search example.com" if action == "adopt" else "")


def test_a_boot_may_write_anew_what_was_adopted_as_cloud_init_wrote_it():
    row = owned(disk="alone")._replace(plain=True)
    assert plan.needs_render(want(), [row], {row.place: "alone"}, BACKEND, unfinished=True)
    made = make([want()], [ALONE], {row.place: "alone"}, [row], None)
    assert told(made) == ([("write", "ens3")], [("reconfigure", "ens3")], [])
    (row,) = plan.ledger_after([row], made.changes)
    assert not plan.needs_render(want(), [row], {row.place: row.disk}, BACKEND, unfinished=True)


def test_what_another_version_rendered_is_rendered_anew_where_nobody_is_disturbed():
    row = owned()._replace(by="0.1.0")
    disk = on_disk(row)
    assert not plan.needs_render(want(), [row], disk, BACKEND)
    assert plan.needs_render(want(), [row], disk, BACKEND, by=__version__)
    assert not plan.needs_render(want(), [owned()], disk, BACKEND, by=__version__)
    alone = row._replace(plain=True, by="")
    assert not plan.needs_render(want(), [alone], disk, BACKEND, by=__version__), "that is no version of ours"
    same = make([want()], [staged()], disk, [row], None)
    assert told(same) == ([("adopt", "ens3")], [], [])
    mended = make([want()], [staged(fingerprint="m2")], disk, [row], None)
    assert [(c.action, c.reason) for c in mended.changes] == [("write", "rendered by another version")]
    assert plan.ledger_after([row], mended.changes)[0].by == __version__


def test_what_cloud_init_wrote_is_not_reapplied_for_a_route_that_it_did_not_get_into_the_kernel():
    """Without net-tools, or where another NIC has the same route."""
    default = {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}
    one = entry(static(routes=[default]))
    wanted = [Want((Item(one.key, one, "ens3", ()),), "d1")]
    first = make(wanted, [ALONE], {ALONE.place: "alone"}, [], LIVE)
    assert told(first) == ([("adopt", "ens3")], [], [])
    rows = plan.ledger_after([], first.changes)
    assert make(wanted, [], {ALONE.place: "alone"}, rows, LIVE).empty
    assert told(make(wanted, [], {ALONE.place: "m1"}, [owned()], LIVE))[1] == [("kick", "ens3")]


@pytest.mark.parametrize(
    ("there", "done"),
    [
        ("alone", ([("write", "ens3")], [("reconfigure", "ens3")], [])),
        ("earlier", ([], [], ["ens3"])),
    ],
)
def test_what_cloud_init_wrote_over_ours_for_the_same_entry_is_taken_back_and_anything_else_is_an_edit(there, done):
    """An update event that a user enabled has cloud-init render anew."""
    assert told(make([want()], [ALONE], {owned().place: there}, [owned(disk="m0")], LIVE)) == done


# -- names ---------------------------------------------------------------------------------------------


def test_a_nic_under_another_name_moves_its_part():
    made = make([want(name="ens9", digest="d2")], [staged(name="ens9", digest="d2")], on_disk(owned()), [owned()])
    assert told(made) == ([("write", "ens9"), ("remove", "ens3")], [("up", "ens9"), ("down", "ens3")], [])


def test_a_name_that_another_nic_takes_over_is_rewritten_and_not_removed():
    made = make([want(B)], [staged(B, fingerprint="m2")], on_disk(owned()), [owned()])
    assert told(made) == ([("write", "ens3")], [("reconfigure", "ens3")], [])
    assert made.changes[0].row == rendered(owned(B, disk="m2"), "text of m2")
    assert plan.ledger_after([owned()], made.changes) == (rendered(owned(B, disk="m2"), "text of m2"),)


def test_two_nics_that_swap_their_names_are_both_rewritten():
    rows = [owned(A, "ens3", "mA"), owned(B, "ens4", "mB")]
    parts = [staged(A, "ens4", "mA4", "d2"), staged(B, "ens3", "mB3", "d2")]
    made = make([want(A, "ens4", "d2"), want(B, "ens3", "d2")], parts, on_disk(*rows), rows)
    assert told(made) == (
        [("write", "ens4"), ("write", "ens3")],
        [("reconfigure", "ens4"), ("reconfigure", "ens3")],
        [],
    )
    assert {(row.mac, row.name) for row in plan.ledger_after(rows, made.changes)} == {(A, "ens4"), (B, "ens3")}


def test_a_name_taken_over_in_the_section_of_a_shared_file():
    shared = {"file": "/etc/network/interfaces", "section": "ens3"}
    row = owned(**shared)
    made = make([want(B)], [staged(B, fingerprint="m2", **shared)], on_disk(row), [row])
    assert told(made) == ([("write", "ens3")], [("reconfigure", "ens3")], [])


def test_one_nic_leaves_a_name_in_one_file_and_another_takes_it_in_another():
    row = owned(file="/etc/network/interfaces", section="ens3")
    made = make([want(B)], [staged(B, fingerprint="m2")], on_disk(row), [row])
    assert sorted(c.action for c in made.changes) == ["remove", "write"]
    assert [(t.action, t.name) for t in made.touches] == [("reconfigure", "ens3")]


def test_a_nic_that_leaves_two_files_is_taken_down_once():
    rows = [owned(), owned(file="/etc/network/interfaces", section="ens3")]
    assert told(make([], [], on_disk(*rows), rows))[1] == [("down", "ens3")]


# -- the kernel ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "lacks"),
    [
        (UP, ""),
        (UP._replace(addresses=()), "the kernel lacks 10.0.0.5/24"),
        (UP._replace(up=False), "the link is down"),
        (None, ""),
    ],
)
def test_a_nic_whose_file_is_right_and_whose_kernel_is_not_is_reapplied(there, lacks):
    made = make([want()], [], on_disk(owned()), [owned()], snapshot(there) if there else snapshot())
    assert [(t.action, t.reason) for t in made.touches] == ([("kick", lacks)] if lacks else [])


def test_no_nic_is_reapplied_at_early_boot():
    assert make([want()], [], on_disk(owned()), [owned()], None).empty


def test_a_nic_is_not_reapplied_when_it_is_touched_anyway_or_drifted():
    cold = snapshot(UP._replace(addresses=()))
    made = make([want(digest="d2")], [staged(fingerprint="m2", digest="d2")], on_disk(owned()), [owned()], cold)
    assert [t.action for t in made.touches] == ["reconfigure"]
    made = make([want()], [staged()], {owned().place: "edited"}, [owned()], cold)
    assert made.touches == ()


# -- whether to render ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ledger", "there", "needed"),
    [
        ([owned()], "m1", False),
        ([], None, True),
        ([], "m1", True),
        ([owned()], "edited", True),
        ([owned()], None, True),
        ([owned(digest="d0")], "m1", True),
        ([owned(backend="ifupdown")], "m1", True),
        ([owned(B)], "m1", True),
    ],
)
def test_nothing_is_rendered_where_all_stands_as_it_was_written_for_this_very_want(ledger, there, needed):
    disk = {owned().place: there} if there else {}
    assert plan.needs_render(want(), ledger, disk, BACKEND) == needed


# -- whatever the state: what is done is ours, and done once ------------------------------------------------

macs, nic_names, marks = st.sampled_from([A, B]), st.sampled_from(["ens3", "ens4"]), st.sampled_from(["m1", "m2"])


def digest_of(mac, name):
    """As desired.Want's: another name is another digest."""
    return "wanted of %s as %s" % (mac, name)


@st.composite
def situations(draw):
    rows = {}
    for name in sorted(draw(st.sets(nic_names))):
        mac = draw(macs)
        rows[name] = owned(mac, name, draw(marks), draw(st.sampled_from(["older", digest_of(mac, name)])))
    disk = {path(name): mark for name, mark in draw(st.dictionaries(nic_names, marks)).items()}
    held = draw(st.dictionaries(macs, nic_names))
    if len(set(held.values())) < len(held):
        held = {A: "ens3"}
    return list(rows.values()), {(p, ""): mark for p, mark in disk.items()}, held


def carry_out(made, ledger, disk):
    """What commit does, on dictionaries."""
    disk = dict(disk)
    for change in made.changes:
        if change.action == "write":
            disk[change.place] = change.row.disk
        elif change.action == "remove":
            disk.pop(change.place)
    return plan.ledger_after(ledger, made.changes), disk


@given(situations(), st.booleans())
def test_a_second_run_does_nothing_and_only_what_is_ours_was_changed(situation, force):
    ledger, disk, held = situation
    wants = [want(mac, name, digest_of(mac, name)) for mac, name in sorted(held.items())]

    def needed(rows, there):
        todo = [one.items[0] for one in wants if force or plan.needs_render(one, rows, there, BACKEND)]
        return [
            staged(item.entry.mac, item.name, "rendered-" + item.entry.mac, digest_of(item.entry.mac, item.name))
            for item in todo
        ]

    first = make(wants, needed(ledger, disk), disk, ledger, force=force)
    assert len({t.name for t in first.touches}) == len(first.touches)
    for change in first.changes:
        if change.action in ("write", "remove") and not force:
            assert disk.get(change.place) == {row.place: row.disk for row in ledger}.get(change.place)
    ledger, disk = carry_out(first, ledger, disk)
    second = make(wants, needed(ledger, disk), disk, ledger, force=force)
    assert second.changes == ()
    assert second.touches == ()
    assert {d.name for d in second.drifted} == {d.name for d in first.drifted}


def test_a_touch_says_what_happens_to_which_nic():
    made = make([want()], [staged()])
    assert made.touches == (Touch("up", A, "ens3", "a new NIC"),)


@pytest.mark.parametrize(
    ("ledger", "reason"), [([], "configured by /etc/x.network"), ([owned()], "configured by /etc/x.network as well")]
)
def test_whoever_configures_a_nic_is_named_and_so_is_whether_we_do_too(ledger, reason):
    made = make([want()], [], on_disk(*ledger), ledger, LIVE, claimed={"ens3": "/etc/x.network"})
    assert [drift.reason for drift in made.drifted] == [reason]
    assert not made.changes


# -- what others only added to -------------------------------------------------------------------------


def followed(parts, row, nics=LIVE, there="theirs", **options):
    return make([want(digest=parts[0].digest)], parts, {row.place: there}, [row], nics, followed=frozenset([row.place]), **options)


def test_a_part_that_others_only_added_to_follows_an_edit():
    """Also one that nobody has looked at since: the new text has what they added, and the row what we wrote."""
    part = staged(fingerprint="m2 and theirs", digest="d2")._replace(rendered="text of m2")
    made = followed([part], owned())
    assert told(made) == ([("write", "ens3")], [("reconfigure", "ens3")], [])
    assert (made.changes[0].text, made.changes[0].reason) == ("text of m2 and theirs", plan.EDITED)
    assert made.changes[0].row == rendered(owned(disk="m2 and theirs", digest="d2"), "text of m2")
    # Without `followed` it is drifted: only --force writes it.
    assert told(make([want(digest="d2")], [part], {part.place: "theirs"}, [owned()], LIVE)) == ([], [], ["ens3"])


def test_a_part_that_others_only_added_to_is_noted_and_no_nic_touched():
    for part in (staged(), staged()._replace(same=frozenset(["theirs"]))):
        made = followed([part], owned())
        assert told(made) == ([("adopt", "ens3")], [], [])
        assert made.changes[0].row.disk == "theirs"
    assert told(followed([staged()], owned(), nics=None)) == ([("write", "ens3")], [("reconfigure", "ens3")], [])  # at a boot


def test_a_part_that_others_only_added_to_goes_with_its_nic():
    made = make([], [], {owned().place: "theirs"}, [owned()], LIVE, followed=frozenset([owned().place]))
    assert told(made) == ([("remove", "ens3")], [("down", "ens3")], [])
