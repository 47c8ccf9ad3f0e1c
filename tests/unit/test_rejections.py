# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""rejections: one content of one entry, for a while, ever longer; what is believed in its stead."""

import time

import pytest

from cloudinit_osnetd.core import rejections, truth
from cloudinit_osnetd.state import store
from cloudinit_osnetd.system import files, paths

from .build import A, B, data, dns, document, link, one_nic, static

KEY, OTHER = A + "/phy", B + "/phy"
OLD, NEW, NEWER = (one_nic(static(address)) for address in ("10.0.0.5", "10.9.0.5", "10.8.0.5"))


def known(*documents):
    heard = truth.EMPTY
    for now, said in enumerate(documents):
        heard = truth.observe(heard, "metadata", data(said), now * 100.0)
    return heard


BEFORE, NOW = known(OLD), known(OLD, NEW)


def rejected(again=(), at=1000.0, first=60.0, old=BEFORE.keys[KEY], wanted=NOW):
    return rejections.add(tuple(again), wanted, {KEY: old}, "the router is silent", first, at)


def address(found, key=KEY):
    return found.keys[key].entry.networks[0].address


def test_the_old_entry_is_believed_until_the_time_is_over():
    refused = rejected()
    assert address(rejections.apply(NOW, refused, 1059.0)) == "10.0.0.5/24"
    assert address(rejections.apply(NOW, refused, 1060.0)) == "10.9.0.5/24"
    assert address(NOW) == "10.9.0.5/24"


def test_where_nothing_can_be_verified_no_rejection_is_over():
    assert address(rejections.apply(NOW, rejected(), None)) == "10.0.0.5/24"


def test_a_clock_that_went_back_ends_it():
    assert address(rejections.apply(NOW, rejected(), 999.0)) == "10.9.0.5/24"


def test_a_new_content_is_believed_at_once_and_so_is_the_old_one():
    for again, there in ((NEWER, "10.8.0.5/24"), (OLD, "10.0.0.5/24")):
        later = known(OLD, NEW, again)
        assert address(rejections.apply(later, rejected(), 1001.0)) == there
        assert rejections.current(later, rejected()) == ()
    assert rejections.current(NOW, rejected()) == rejected()


def test_without_an_old_entry_the_key_is_left_out():
    both = known(document([link(), link(B, "tap2")], [static(), static("10.1.0.5", link="tap2")]))
    refused = rejections.add((), both, {OTHER: None}, "why", 60.0, 0.0)
    assert set(rejections.apply(both, refused, 1.0).keys) == {KEY}
    assert set(rejections.apply(both, refused, 60.0).keys) == {KEY, OTHER}


def test_what_was_not_edited_is_not_rejected():
    assert rejections.add((), NOW, {KEY: NOW.keys[KEY]}, "why", 60.0, 0.0) == ()


def test_an_edit_of_the_global_dns_alone_is_rejected_too():
    """As another port's leaving makes none: the document is the same but for its DNS."""
    before, now, later = (document([link()], [static()], dns(*servers)) for servers in (["10.0.0.2"], ["10.0.0.3"], []))
    wanted = known(before, now)
    assert wanted.keys[KEY].entry == known(before).keys[KEY].entry
    refused = rejected(old=known(before).keys[KEY], wanted=wanted)
    assert rejections.apply(wanted, refused, 1001.0).keys[KEY].services == ("10.0.0.2",)
    assert rejections.apply(wanted, refused, 1060.0).keys[KEY].services == ("10.0.0.3",)
    # What is said next is believed at once.
    assert rejections.apply(known(before, now, later), refused, 1001.0).keys[KEY].services == ()


def test_the_global_dns_of_an_entry_that_has_its_own_is_not_what_was_rejected():
    own = known(one_nic(static(services=dns("10.0.0.9")))).keys[KEY]
    assert rejections.content(own) == rejections.content(own._replace(services=("10.0.0.2",)))


def test_each_time_it_takes_longer_up_to_a_day_and_a_new_content_begins_anew():
    refused, seconds = (), []
    for _time in range(13):
        refused = rejected(refused)
        seconds.append(refused[0].seconds)
    assert seconds[:4] == [60.0, 120.0, 240.0, 480.0]
    assert seconds[-2:] == [86400.0, 86400.0]
    assert rejected(refused, wanted=known(OLD, NEW, NEWER))[0].seconds == 60.0
    assert rejected(first=100000.0)[0].seconds == 100000.0


def test_it_says_until_when_and_why(monkeypatch):
    """In the server's time zone, as all other times that a person is shown."""
    monkeypatch.setenv("TZ", "EST-2")
    time.tzset()
    assert str(rejected()[0]).startswith("rejected until 1970-01-01 02:17:40, ")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert str(rejected()[0]) == "rejected until 1970-01-01 00:17:40, because the router is silent"


@pytest.mark.parametrize(("now", "left"), [(1000.0, 60.0), (1059.5, 0.5), (1060.0, None)])
def test_the_next_try(now, left):
    assert rejections.seconds_to_retry(NOW, rejected(), now) == left
    assert rejections.seconds_to_retry(BEFORE, rejected(), now) is None


def test_it_is_kept_with_the_state_and_a_store_without_any_is_read(guest):
    state = store.empty("i")._replace(truth=NOW, rejections=rejected())
    store.save(state)
    assert store.load("i") == state
    assert store.load("another").rejections == ()
    files.replace(paths.STORE, (files.read(paths.STORE) or "").replace('"rejections"', '"unheard of"'))
    assert store.load("i") == state._replace(rejections=())
