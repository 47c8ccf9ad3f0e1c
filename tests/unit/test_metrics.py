# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""metrics: one primary, everybody else above it, and nobody's metric moves while it is configured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd import network_data
from cloudinit_osnetd.desired import configurable, desired, give_metrics
from cloudinit_osnetd.metrics import PRIMARY, give
from cloudinit_osnetd.truth import EMPTY, observe

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
    assert give(known, settled, arriving) == given_now


def test_beside_a_primary_that_others_configure_nobody_is_the_primary():
    assert give({}, [], ["a", "b"], another=True) == {"a": 2100, "b": 2200}


DEFAULT = {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}


@pytest.mark.parametrize("by", ["its entry", "the kernel"])
def test_the_way_out_of_a_nic_that_is_ignored_is_not_taken_over(by):
    routes = [DEFAULT] if by == "its entry" else []
    known = observe(
        EMPTY,
        "metadata",
        data(document([link(), link(B, "tap2")], [static(routes=routes), static("10.1.0.5", link="tap2", routes=[DEFAULT])])),
        0.0,
    )
    here = nics(nic("ens3", A), nic("ens4", B))
    keys_ = configurable(known, here, frozenset(["ens3"]))
    ways = [A] if by == "the kernel" else []
    assert give_metrics(known, keys_, {}, frozenset(), frozenset(here), ways) == {B + "/phy": 2100}
    assert give_metrics(known, keys_, {}, frozenset(), frozenset([B]), []) == {B + "/phy": 0}, "it has left"


def test_whose_default_route_is_in_use_is_the_primary():
    known = observe(
        EMPTY,
        "metadata",
        data(document([link(), link(B, "tap2")], [static(routes=[DEFAULT]), static("10.1.0.5", link="tap2", routes=[DEFAULT])])),
        0.0,
    )
    here = nics(nic("ens3", A), nic("ens4", B))
    keys_ = configurable(known, here)
    assert give_metrics(known, keys_, {}, frozenset(), frozenset(here), [B, A]) == {A + "/phy": 2100, B + "/phy": 0}


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
            known = give(known, here, [key for key in some if key not in here])
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
    return give_metrics(known, configurable(known, present), given_before, frozenset(configured))


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
