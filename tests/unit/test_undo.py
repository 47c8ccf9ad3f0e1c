# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""undo: which run is rolled back, and what the links get then. On real guests: tests/scenarios/test_undo.py."""

import pytest

from cloudinit_osnetd.backends import of_renderer
from cloudinit_osnetd.core import rejections, truth
from cloudinit_osnetd.core.plan import Change
from cloudinit_osnetd.planning import render
from cloudinit_osnetd.run import undo
from cloudinit_osnetd.state import former, store
from cloudinit_osnetd.system import files

from .build import A, B, data, document, link, nic, static

KEY, OTHER = A + "/phy", B + "/phy"
PLACE = ("/etc/network/interfaces", "ens3")


def known(first, second="10.1.0.1"):
    links, networks = [link(), link(B, "tap2")], [static(first), static(second, link="tap2", id="n2")]
    return truth.observe(truth.EMPTY, "push", data(document(links, networks)), 1.0)


def change(key=KEY, name="ens3"):
    return Change("write", key, key[:17], name, PLACE[0], name, "new", None, "its entry changed")


def state(*runs):
    """`runs`: the numbers, each with the changes and what the parts were rendered from."""
    kept = ()
    for number, changes, rendered, texts in runs:
        kept = former.added(kept, number, 5.0, changes, rendered, texts)
    return store.empty("i")._replace(truth=known("10.0.0.3"), run=max([run[0] for run in runs], default=0), former=kept)


TWO = state((3, [change()], known("10.0.0.1").keys, {}), (5, [change(), change(OTHER, "ens4")], known("10.0.0.2", "10.1.0.9").keys, {}))


@pytest.mark.parametrize(
    ("there", "asked", "provisional", "then"),
    [
        (TWO, None, 0, 5),
        (TWO, 3, 0, 3),
        (TWO, 4, 0, 4),
        (TWO, None, 7, 7),  # a push that is not confirmed, and changed no file
        (state(), None, 2, 2),
        (state(), None, 0, undo.NothingToUndo),
        (TWO, 6, 0, undo.NoSuchRun),
        (TWO, 0, 0, undo.NoSuchRun),
        (TWO, -1, 0, undo.NoSuchRun),
        (TWO, 2, 0, undo.NotKept),
    ],
)
def test_which_run(there, asked, provisional, then):
    if isinstance(then, int):
        assert undo.number_of(there, asked, provisional) == then
    else:
        with pytest.raises(then):
            undo.number_of(there, asked, provisional)


def addresses(one):
    believed = rejections.apply(one.truth, one.rejections, 1e12)
    return {key: [net.address for net in kt.entry.networks] for key, kt in believed.keys.items()}


def test_each_link_gets_what_it_had_before_the_first_of_these_runs():
    assert addresses(undo.undone(TWO, 5, 9).state) == {KEY: ["10.0.0.2/24"], OTHER: ["10.1.0.9/24"]}
    assert addresses(undo.undone(TWO, 3, 9).state) == {KEY: ["10.0.0.1/24"], OTHER: ["10.1.0.9/24"]}
    assert addresses(undo.undone(TWO, 5, 5).state) == {KEY: ["10.0.0.3/24"], OTHER: ["10.1.0.1/24"]}  # its own


def test_it_ends_with_the_next_word_and_with_nothing_else():
    done = undo.undone(TWO, 3, 9).state
    assert rejections.seconds_to_retry(done.truth, done.rejections, 6.0) is None
    assert len(rejections.only_lasting(done.rejections)) == 2
    assert all("as before run 3" in str(one) for one in done.rejections)
    assert addresses(done._replace(truth=known("10.0.0.8")))[KEY] == ["10.0.0.8/24"]


def test_what_the_cloud_wants_itself_is_not_rejected_any_more():
    done = undo.undone(TWO, 3, 9).state
    again = former.added(done.former, 6, 6.0, [change()], done.truth.keys, {})
    back = undo.undone(done._replace(former=again, run=6), 6, 9).state
    assert [one.key for one in back.rejections] == [OTHER]


def test_a_new_nic_gets_nothing_and_a_part_of_other_software_is_put_back():
    there = state((1, [change(), change(OTHER, "ens4")], {}, {PLACE: "auto ens3\n"}))
    done = undo.undone(there, 1, 9)
    assert addresses(done.state) == {}
    assert {one.key: one.lasting for one in done.state.rejections} == {KEY: rejections.LASTING_FOREIGN, OTHER: rejections.LASTING}
    assert set(done.parts) == {KEY} and done.left == ()


def test_a_link_that_nobody_lists_any_more_is_reported():
    done = undo.undone(TWO._replace(truth=truth.EMPTY), 5, 9)
    assert len(done.left) == 2 and A in done.left[0] + done.left[1]


def test_it_stands_in_the_store(guest):
    done = undo.undone(TWO, 3, 9).state
    store.save(done)
    assert store.load("i") == done


@pytest.fixture
def put_back(tmp_path, backend):
    """Of a link whose part an operator edited: overwritten by force in run 3, put back by the rollback of run 4."""
    path = str(tmp_path / "10-cloud-init-ens3.network")
    edited = "[Match]\nName=ens3\n[Network]\nAddress=10.0.0.99/24\n"
    there = state((3, [change()._replace(path=path, section="")], {}, {(path, ""): edited}))
    there = undo.undone(there, 3, 4).state
    kept = former.added(there.former, 4, 6.0, [change()._replace(path=path, section="")], there.truth.keys, {(path, ""): "ours"})
    files.replace(path, edited)
    return there._replace(former=kept, run=4), path


@pytest.fixture
def backend():
    return of_renderer("networkd")


NICS = {A: nic("ens3", A)}


def test_the_rollback_of_a_rollback_may_replace_what_that_one_put_back(put_back, backend):
    there, path = put_back
    done = undo.undone(there, 4, 5)
    assert done.state.rejections == () and done.state.ledger == ()
    (row,) = undo.reclaimed(there, done.state, backend, NICS).ledger
    assert (row.key, row.path, row.name, row.digest) == (KEY, path, "ens3", "")
    assert row.disk == render.disk_parts(backend, [row.place])[row.place]


def test_but_not_what_was_edited_since_nor_that_of_a_nic_that_is_not_there(put_back, backend):
    there, path = put_back
    done = undo.undone(there, 4, 5).state
    assert undo.reclaimed(there, done, backend, {}).ledger == ()
    assert undo.reclaimed(there, there, backend, NICS).ledger == ()  # the same again
    files.replace(path, "[Match]\nName=ens3\n[Network]\nAddress=10.0.0.98/24\n")
    assert undo.reclaimed(there, done, backend, NICS).ledger == ()
