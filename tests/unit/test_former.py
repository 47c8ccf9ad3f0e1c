# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""former: what the NICs had before each of the last runs, bounded, and kept in the store."""

import json

import pytest

from cloudinit_osnetd.core import truth
from cloudinit_osnetd.core.plan import Change
from cloudinit_osnetd.state import former, store

from .build import A, B, data, dns, document, link, static

KEY, OTHER = A + "/phy", B + "/phy"
OLD = truth.observe(truth.EMPTY, "drive", data(document([link()], [static()], dns("10.9.9.9"))), 1.0).keys
PLACE = ("/etc/network/interfaces", "ens3")


def change(key=KEY, action="write", name="ens3"):
    return Change(action, key, key[:17], name, PLACE[0], name, "new", None, "its entry changed")


def test_the_entry_that_a_part_was_rendered_from_is_kept():
    (text,) = former.added((), 7, 5.0, [change()], OLD, {PLACE: "old"})
    kept = former.read(text)
    assert (kept.run, kept.when, former.number_of(text)) == (7, 5.0, 7)
    assert kept.links == {KEY: former.Former(A, "ens3", OLD[KEY].entry, ("10.9.9.9",))}


def test_a_part_of_unknown_origin_is_kept_as_it_is_and_a_new_nic_had_nothing():
    texts = {PLACE: "auto ens3\n"}
    (text,) = former.added((), 1, 5.0, [change(), change(OTHER, name="ens4")], {}, texts)
    links = former.read(text).links
    assert links[KEY].parts == ((*PLACE, "auto ens3\n"),) and links[KEY].entry is None
    assert links[OTHER] == former.Former(B, "ens4", None)


def test_what_a_link_had_before_the_first_pass_of_a_run_counts():
    once = former.added((), 3, 5.0, [change()], OLD, {})
    (twice,) = former.added(once, 3, 6.0, [change(), change(OTHER, name="ens4")], {}, {})
    assert former.read(twice).links[KEY].entry == OLD[KEY].entry and OTHER in former.read(twice).links
    assert [former.number_of(text) for text in former.added(once, 4, 6.0, [change()], {}, {})] == [3, 4]


@pytest.mark.parametrize("action", ["adopt", "forget"])
def test_what_changes_no_file_is_not_kept(action):
    assert former.added(("x",), 3, 5.0, [change(action=action)], OLD, {}) == ("x",)


def test_the_newest_runs_are_kept_within_the_bounds():
    assert former.bounded([str(n) for n in range(50)]) == tuple(str(n) for n in range(50 - former.RUNS, 50))
    half = "x" * (former.BYTES // 2)
    assert former.bounded(["a", half, half]) == (half, half)
    assert former.bounded(["a", "x" * (2 * former.BYTES)]) == ("x" * (2 * former.BYTES),)  # the last one, whatever its size


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"run": 1, "when": 1, "links": {"k": 1}}', '{"run": "x", "when": 1, "links": {}}',
     '{"run": Infinity, "when": 1, "links": {}}', "[" * 100000],
)  # fmt: skip
def test_what_cannot_be_read_is_none(text):
    assert former.read(text) is None and former.number_of(text) == 0


def test_it_stands_in_the_store(guest):
    state = store.empty("i")._replace(run=7, former=former.added((), 7, 5.0, [change()], OLD, {}))
    store.save(state)
    assert store.load("i") == state
    assert store.load("another").former == () and store.load("another").run == 0


@pytest.mark.parametrize(("run", "kept"), [("7", "x"), (True, [1, None]), (None, {}), ([], 3)])
def test_a_store_with_other_values_there_is_read_without_them(guest, run, kept):
    from cloudinit_osnetd.system import files, paths

    store.save(store.empty("i"))
    files.replace(paths.STORE, json.dumps(dict(files.read_json(paths.STORE), run=run, former=kept)))
    assert (store.load("i").run, store.load("i").former) == (0, ())
