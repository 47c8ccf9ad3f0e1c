# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""metrics: one primary, everybody else above it, and nobody's metric moves while it is configured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd.core import network_data
from cloudinit_osnetd.core.desired import assign_metrics, configurable, desired
from cloudinit_osnetd.core.metrics import PRIMARY, assign
from cloudinit_osnetd.core.truth import EMPTY, observe

from .build import A, B, C, data, dhcp, document, entry, link, nic, nics, static


@pytest.mark.parametrize(
    ("known", "settled", "arriving", "given_now"),
    [
        ({}, [], ["a"], {"a": 0}),
        ({}, [], ["a", "b", "c"], {"a": 0, "b": 2100, "c": 2200}),
        ({"a": 0}, ["a"], ["b"], {"a": 0, "b": 2100}),
        ({"a": 0, "b": 2100}, ["a"], ["b"], {"a": 0, "b": 2100}),
        ({"a": 0, "b": 2100}, ["b"], ["a"], {"a": 0, "b": 2100}),
        ({"a": 0, "b": 2100}, ["b"], ["c"], {"a": 0, "b": 2100, "c": 2200}),
        ({"a": 0}, [], ["b"], {"a": 0, "b": 0}),
        ({"a": 0, "b": 0}, ["b"], ["a"], {"a": 2100, "b": 0}),
        ({"a": 2100}, [], ["a"], {"a": 2100}),
        ({}, ["a"], ["b"], {"b": 2100}),
        ({"a": 0}, ["a"], [], {"a": 0}),
    ],
)
def test_metrics_are_given_once(known, settled, arriving, given_now):
    assert assign(known, settled, arriving) == given_now


def test_beside_a_primary_that_others_configure_nobody_is_the_primary():
    assert assign({}, [], ["a", "b"], another=True) == {"a": 2100, "b": 2200}


DEFAULT = {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}


def two_ways_out():
    """ens3's and ens4's, in the order in which they were heard."""
    networks = [static(routes=[DEFAULT]), static("10.1.0.5", link="tap2", routes=[DEFAULT])]
    return observe(EMPTY, "metadata", data(document([link(), link(B, "tap2")], networks)), 0.0)


@pytest.mark.parametrize(
    ("ignored", "ways_out", "given_now"),
    [
        # The first one is ignored, and the default route is its own, or will be.
        (A, [A], {B: 2100}),
        (A, [A, B], {B: 2100}),
        (A, [], {B: 2100}),
        # The second one is: the first stays what it is.
        (B, [A, B], {A: 0}),
        (B, [A], {A: 0}),
        (B, [], {A: 0}),
        (B, [B, A], {A: 2100}),
        # Nobody is, and the default route in use is not the first one's.
        ("", [B, A], {A: 2100, B: 0}),
        ("", [A, B], {A: 0, B: 2100}),
        ("", [], {A: 0, B: 2100}),
    ],
)
def test_the_best_way_out_is_the_primary_also_where_it_is_left_to_others(ignored, ways_out, given_now):
    known = two_ways_out()
    keys_ = configurable(known, nics(nic("ens3", A), nic("ens4", B)), frozenset([ignored]))
    left = frozenset(filter(None, [ignored]))
    found = assign_metrics(known, keys_, {}, frozenset(), left, ways_out)
    assert found == {mac + "/phy": metric for mac, metric in given_now.items()}


@pytest.mark.parametrize("ignored", [A, B])
def test_a_boot_s_first_config_and_the_early_unit_agree(ignored):
    """cloud-init is told of both where its document lists both."""
    known = two_ways_out()
    here = nics(nic("ens3", A), nic("ens4", B))
    told = assign_metrics(known, configurable(known, here), {}, frozenset())
    early = assign_metrics(known, configurable(known, here, frozenset([ignored])), {}, frozenset(), frozenset([ignored]))
    assert early.items() <= told.items()


keys = st.sampled_from("abcde")


@given(
    st.lists(
        st.tuples(st.sampled_from(["arrive", "leave", "forget"]), st.lists(keys, min_size=1, max_size=3, unique=True)),
        max_size=12,
    )
)
def test_whatever_comes_and_goes_no_two_share_a_metric_and_none_moves(story):
    known, here = {}, set()
    for what, some in story:
        if what == "arrive":
            before = {key: known[key] for key in here}
            known = assign(known, here, [key for key in some if key not in here])
            here |= set(some)
            assert {key: known[key] for key in before} == before
        else:
            here -= set(some)
            if what == "forget":
                known = {key: metric for key, metric in known.items() if key not in some}
        held = [known[key] for key in here]
        assert len(set(held)) == len(held)
        assert all(metric == PRIMARY or metric > 1024 for metric in held), "1024 is networkd's for leases"


@pytest.mark.parametrize(
    ("networks", "takes"),
    [
        ([], False),
        ([static()], False),
        ([static(routes=[{"network": "10.0.0.0/8", "gateway": "10.0.0.1"}])], False),
        ([static(routes=[{"network": "0.0.0.0/0", "gateway": "10.0.0.1"}])], True),
        ([static("fd00::5", "ffff::", routes=[{"network": "::/0", "gateway": "fd00::1"}])], True),
        ([static(gateway="10.0.0.1")], True),
        ([dhcp()], True),
        ([dict(dhcp(), type="ipv6_slaac")], True),
    ],
)
def test_a_link_takes_the_default_route_by_its_routes_a_lease_or_an_advertisement(networks, takes):
    assert network_data.takes_default(entry(*networks)) == takes


GATEWAY = {"routes": [{"network": "0.0.0.0/0", "gateway": "10.0.0.1"}]}
DOC = document(
    [link(), link(B, "tap2"), link(C, "tap3")], [static(), static("10.1.0.5", link="tap2", **GATEWAY), dhcp("tap3")]
)
ALL = nics(nic("ens3"), nic("ens4", B, 3), nic("ens5", C, 4))


def metrics_of(known, present, given_before, configured):
    return assign_metrics(known, configurable(known, present), given_before, frozenset(configured))


def test_the_first_link_with_a_default_route_is_the_primary():
    known = observe(EMPTY, "drive", data(DOC), 0.0)
    found = metrics_of(known, ALL, {}, [])
    assert found == {B + "/phy": 0, C + "/phy": 2100, A + "/phy": 2200}
    assert {w.items[0].key: w.items[0].metric for w in desired(known, ALL, given=found)} == found


def test_who_arrives_beside_others_is_never_the_primary():
    known = observe(EMPTY, "drive", data(DOC), 0.0)
    found = metrics_of(known, nics(nic("ens3")), {}, [])
    assert found == {A + "/phy": 0}
    assert metrics_of(known, ALL, found, found) == {A + "/phy": 0, B + "/phy": 2100, C + "/phy": 2200}


def test_what_the_truth_has_forgotten_has_no_metric():
    known = observe(EMPTY, "drive", data(DOC), 0.0)
    assert metrics_of(known, {}, {"gone/phy": 0, A + "/phy": 2100}, []) == {A + "/phy": 2100}
