# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""choose_nic: through which NIC the metadata service is asked, and which answer is taken."""

from contextlib import contextmanager

import pytest

from cloudinit_osnetd.core import truth
from cloudinit_osnetd.core.network_data import Refused
from cloudinit_osnetd.core.records import Address, Route
from cloudinit_osnetd.openstack import choose_nic, metadata, temporary_access

from .build import A, B, C, data, nic, one_nic, snapshot, static

V4 = ["10.0.0.5/24"]
LINK_LOCAL = "fe80::f816:3eff:fe00:1/64"
DATA = data(one_nic())


def default(index, metric=0):
    return Route("0.0.0.0/0", "10.0.0.1", index, metric)


ENS3, ENS4, ENS5 = nic("ens3", A, 2, V4), nic("ens4", B, 3, V4), nic("ens5", C, 4, V4)
BARE = nic("ens6", C, 5, [], up=False)


def told(accesses):
    return ["%s %s%s" % (access.nic.name, access.kind, " " + access.gateway if access.gateway else "") for access in accesses]


@pytest.mark.parametrize(
    ("nics", "routes", "answered", "order"),
    [
        ([ENS3, ENS4], [default(2, 5), default(3, 5)], "", ["ens3 route", "ens4 route"]),
        ([ENS3, ENS4], [default(2, 200), default(3, 100)], "", ["ens4 route", "ens3 route"]),
        ([ENS3, ENS4], [default(2, 50), default(2, 200), default(3, 100)], "", ["ens3 route", "ens4 route"]),
        ([ENS3, ENS4], [default(2, 200), default(3, 100)], A, ["ens3 route", "ens4 route"]),
        ([ENS3, ENS4], [default(2, 200), default(3, 100)], "fa:16:3e:00:00:77", ["ens4 route", "ens3 route"]),
        # Only what is there and has a route to 169.254.169.254.
        ([ENS3._replace(up=False), ENS4], [default(2), default(3)], A, ["ens4 route"]),
        ([ENS3._replace(virtual=True), ENS4], [default(2), default(3)], A, ["ens4 route"]),
        ([ENS3, ENS4], [default(3)], A, ["ens4 route"]),
        ([ENS3], [Route("169.254.169.254/32", "10.0.0.2", 2, 0)], "", ["ens3 route"]),
        ([ENS3], [Route("10.0.0.0/8", "", 2, 0)], "", []),
        # A link-local address needs no route, once duplicate address detection is over.
        ([nic("ens3", A, 2, V4 + [LINK_LOCAL])], [default(2)], "", ["ens3 route", "ens3 ipv6"]),
        ([nic("ens3", A, 2, [LINK_LOCAL])], [], "", ["ens3 ipv6"]),
        ([ENS3._replace(addresses=(Address(LINK_LOCAL, True, True),))], [], "", []),
        ([nic("ens3", A, 2, ["fd00::5/64"])], [], A, []),
        ([], [], A, []),
    ],
)
def test_open_ways_go_by_the_nic_that_answered_last_then_by_the_default_route(nics, routes, answered, order):
    opened, _closed = choose_nic.candidates(snapshot(*nics, routes=routes), answered, {})
    assert told(opened) == order


def test_without_a_route_the_ways_are_the_gateway_on_link_link_local_and_a_lease():
    shot = snapshot(ENS3, BARE)
    opened, closed = choose_nic.candidates(shot, A, {A: ["10.0.0.1"], "fa:16:3e:00:00:99": ["10.9.0.1"]})
    assert told(opened) == []
    assert told(closed) == [
        *("ens3 gateway 10.0.0.1", "ens3 on-link", "ens3 ipv6", "ens3 eui64"),
        *("ens6 ipv6", "ens6 eui64", "ens6 lease"),
    ]


@pytest.mark.parametrize("ignored", [[C], ["ens6"]])
def test_no_way_is_opened_through_a_nic_that_is_ignored(ignored):
    asked = nic("ens6", C, 7, [LINK_LOCAL])
    for there, expected in ((BARE, []), (asked, ["ens6 ipv6"])):
        opened, closed = choose_nic.candidates(snapshot(there), "", {}, frozenset(ignored))
        assert (told(opened), closed) == (expected, [])


def test_no_way_is_opened_through_a_bonds_member():
    assert choose_nic.candidates(snapshot(BARE._replace(master=9)), "", {}) == ([], [])


def test_no_lease_is_asked_for_on_a_nic_whose_backend_knows_what_it_wants():
    _opened, closed = choose_nic.candidates(snapshot(BARE), "", {C: []})
    assert told(closed) == ["ens6 ipv6", "ens6 eui64"]


def test_the_gateways_of_an_entry_are_those_that_lead_there_the_service_s_own_first():
    raw = one_nic(static())
    raw["networks"][0]["routes"] = [
        {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"},
        {"network": "10.7.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.7"},
        {"network": "169.254.169.254", "netmask": "255.255.255.255", "gateway": "10.0.0.2"},
    ]
    assert choose_nic.gateways(truth.observe(truth.EMPTY, "drive", data(raw), 0.0)) == {A: ["10.0.0.2", "10.0.0.1"]}


class World:
    """What is behind each NIC: data, or what asking it raises."""

    def __init__(self, monkeypatch, **behind):
        self.behind, self.asked, self.opened = behind, [], []
        self.at_once = []  # the NICs through which both documents are asked for at once
        monkeypatch.setattr(metadata, "fetch", self.fetch)
        monkeypatch.setattr(temporary_access, "opened", self.open)

    @contextmanager
    def open(self, kind, way_nic, _gateway):
        self.opened.append((kind, way_nic.name))
        yield "made" if kind == "eui64" else ""

    def fetch(self, device, instance_id, ipv6=False, at_once=False, source=""):
        assert instance_id == "i"
        name = device + ("_6" if ipv6 else "") + ("_" + source if source else "")
        self.asked.append(name)
        self.at_once += [name] if at_once else []
        if isinstance(self.behind[name], Exception):
            raise self.behind[name]
        return self.behind[name]


ROUTES = [default(2), default(3), default(4)]


def ask(answered="", nics=(ENS3, ENS4, ENS5), routes=ROUTES, **options):
    return choose_nic.ask(snapshot(*nics, routes=routes), truth.EMPTY, answered, "i", **options)


def test_only_the_first_is_asked_when_it_answers(monkeypatch):
    world = World(monkeypatch, ens3=DATA)
    assert ask() == choose_nic.Answer(DATA, A, ())
    assert world.asked == ["ens3"]


@pytest.mark.parametrize("why", [metadata.NoResponse("timed out"), metadata.UnknownClient("404"), temporary_access.NotOpened("no lease")])
def test_the_next_is_asked_where_one_is_silent_or_does_not_know_us(monkeypatch, why):
    world = World(monkeypatch, ens3=why, ens4=DATA)
    assert ask(A) == choose_nic.Answer(DATA, B, ())
    assert world.asked == ["ens3", "ens4"]


def test_only_the_nic_that_answered_is_asked_for_both_documents_at_once(monkeypatch):
    """What is behind another one may be another server's: it is asked who it is about first."""
    world = World(monkeypatch, ens3=metadata.NoResponse("timed out"), ens4=DATA)
    assert ask(A).mac == B
    assert world.at_once == ["ens3"]
    ask(B)
    assert world.at_once == ["ens3", "ens4"]


def test_a_service_for_another_server_is_not_listened_to_and_always_named(monkeypatch):
    world = World(monkeypatch, ens3=metadata.WrongInstance("of server x, we are i"), ens4=DATA)
    assert ask(A) == choose_nic.Answer(DATA, B, ("of server x, we are i",))
    assert world.asked == ["ens3", "ens4"]


def test_an_address_that_is_no_longer_the_port_s_is_followed_by_the_one_that_its_mac_makes(monkeypatch):
    both = nic("ens3", A, 2, V4 + [LINK_LOCAL])
    world = World(monkeypatch, ens3=metadata.UnknownClient("404"), ens3_6=DATA)
    assert ask(A, [both, ENS4]) == choose_nic.Answer(DATA, A, ())
    assert world.asked == ["ens3", "ens3_6"]


def test_a_link_local_address_that_the_service_does_not_know_is_followed_by_the_one_that_the_mac_makes(monkeypatch):
    """NetworkManager's own profile of a new NIC makes another one, and no other NIC is there."""
    unknown = metadata.UnknownClient("404")
    for here in (nic("ens3", A, 2, ["fe80::6512:22ed:79f5:6042/64"]), BARE):
        world = World(monkeypatch, **{here.name + "_6": unknown, here.name + "_6_made": DATA})
        assert ask(nics=[here], routes=[]) == choose_nic.Answer(DATA, here.mac, ())
        assert world.asked == [here.name + "_6", here.name + "_6_made"]
        assert ask(nics=[here], routes=[], may_open=False).data is None
    # It has that one already, or there is no service at that address.
    for here, why in ((nic("ens3", A, 2, [LINK_LOCAL]), unknown), (BARE, metadata.NoResponse("timed out"))):
        world = World(monkeypatch, **{here.name + "_6": why, here.name: why})
        assert ask(nics=[here], routes=[]).data is None
        assert ("eui64", here.name) not in world.opened


@pytest.mark.parametrize("why", [metadata.SourceError("HTTP status 503"), Refused("network_data", "has no links")])
def test_the_right_service_with_nothing_to_say_is_not_replaced_by_a_neighbour(monkeypatch, why):
    world = World(monkeypatch, ens3=why, ens4=DATA)
    answer = ask(A)
    assert (answer.data, answer.mac) == (None, A) and "status 503" in str(answer) or "no links" in str(answer)
    assert world.asked == ["ens3"]


def test_a_service_that_was_never_the_right_one_is_passed_by_when_it_fails(monkeypatch):
    world = World(monkeypatch, ens3=metadata.SourceError("HTTP status 503"), ens4=DATA)
    assert ask() == choose_nic.Answer(DATA, B, ())
    assert world.asked == ["ens3", "ens4"]


def test_only_the_pinned_nic_is_ever_asked(monkeypatch):
    world = World(monkeypatch, ens3=DATA, ens4=metadata.NoResponse("timed out"), ens5=DATA)
    answer = ask(A, pinned=B, may_open=False)
    assert (answer.data, answer.mac, answer.problems) == (None, "", ("timed out",))
    assert world.asked == ["ens4"]


def test_who_may_open_nothing_asks_only_where_a_way_is_open(monkeypatch):
    world = World(monkeypatch, ens6_6=DATA, ens6=DATA)
    assert ask(nics=[BARE], routes=[], may_open=False).data is None
    assert (world.asked, world.opened) == ([], [])
    assert ask(nics=[BARE], routes=[]).data == DATA
    assert world.opened == [("ipv6", "ens6")]


def test_one_lease_is_asked_for_at_a_time_and_none_again_where_there_was_none(monkeypatch):
    """Each holds the lock for seconds."""
    other = nic("ens7", B, 6, [], up=False)
    no = temporary_access.NotOpened("no lease")
    world = World(monkeypatch, ens6=no, ens6_6=no, ens7=no, ens7_6=no)
    unleased = set()
    for expected in ([("lease", "ens6")], [("lease", "ens7")], []):
        del world.opened[:]
        answer = ask(nics=[BARE, other], routes=[], skip_lease=unleased)
        unleased |= {answer.no_lease}
        assert [way for way in world.opened if way[0] == "lease"] == expected
    assert unleased == {C, B, ""}


def test_nobody_answers(monkeypatch):
    World(monkeypatch, ens3=metadata.NoResponse("ens3: no"), ens4=metadata.NoResponse("ens4: no"), ens5=metadata.NoResponse("ens5: no"))
    assert ask(may_open=False) == choose_nic.Answer(None, "", ("ens3: no", "ens4: no", "ens5: no"))


def test_nobody_can_be_asked(monkeypatch):
    World(monkeypatch)
    answer = ask(nics=[], routes=[])
    assert (answer.data, answer.mac) == (None, "") and "no NIC" in answer.problems[0]
