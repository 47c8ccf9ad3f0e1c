# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Documents of all kinds put in force on Windows, one after another: what is there then, and that a second run does nothing.

Only the system below is a model (windows_model.py). tests/windows does it with real NICs.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudinit_osnetd.core import network_data

from .build import A, B, document, link

pytest.importorskip("cloudinit_osnetd.windows", reason="no package for Linux has it, and debian/tests/unit tests those")
from cloudinit_osnetd.windows import apply, netsh, registry, store

from .windows_model import Machine

DOCUMENTS = sorted((Path(__file__).parent.parent / "documents").glob("*.json"))
HERE = {"ens3": "00:00:5e:00:53:01", "ens4": "00:00:5e:00:53:02", "ens5": "00:00:5e:00:53:03"}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Returns what makes a machine of some MACs, which is read and changed from then on."""
    monkeypatch.setenv("PROGRAMDATA", str(tmp_path))
    monkeypatch.setattr(apply, "_SETTLE", 0.0)

    def make(macs):
        made = Machine(macs)
        monkeypatch.setattr(apply.state, "read", made.state)
        monkeypatch.setattr(netsh, "run", made.run)
        monkeypatch.setattr(registry, "write", made.write)
        store.save(store.Stored())
        return made

    return make


def push(data):
    """Returns the outcomes by MAC, without those of links that Windows has not."""
    return {outcome.mac: outcome for outcome in apply.push(data, apply.Options()) if outcome.name}


def assert_in_force(machine, data, foreign=frozenset()):
    outcomes = push(data)
    assert {mac: outcome.problems for mac, outcome in outcomes.items() if outcome.problems} == {}
    before = len(machine.commands)
    again = push(data)
    assert machine.commands[before:] == []
    assert not any(outcome.done or outcome.problems for outcome in again.values())
    for entry in data.entries.values():
        if entry.kind == "phy":
            static = set(network_data.static_addresses(entry))
            assert set(machine.card(entry.mac).addresses) - foreign == static


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_documents_of_others(machine, path):
    """Also what is left of them: when the document names its links alone, all that was ours is gone."""
    data = network_data.parse_bytes(path.read_bytes(), lambda: HERE)
    made = machine({entry.mac for entry in data.entries.values() if entry.mac})
    assert_in_force(made, data)
    bare = network_data.parse(document([link(mac=card.mac, id=card.name) for card in made.cards.values()], []))
    push(bare)
    for card in made.cards.values():
        assert (card.addresses, card.routes, card.dns, card.suffix) == ([], {}, {"ipv4": [], "ipv6": []}, "")
    assert made.search == ()


def net(on, kind, address="", length="", gateway="", routes=(), servers=()):
    said = {"id": on + address, "link": on, "type": kind, "services": [{"type": "dns", "address": one} for one in servers]}
    if address:
        said.update(ip_address=address, netmask=length)
    if gateway:
        said["gateway"] = gateway
    said["routes"] = [dict(zip(("network", "gateway", "metric"), route)) for route in routes]
    return said


# Gateways in a subnet, in none, on the link; addresses of one subnet and of several; both families.
POOL = [
    ("ipv4", "192.0.2.10", "24", "192.0.2.1", [], ["192.0.2.53", "192.0.2.54"]),
    ("ipv4", "192.0.2.10", "25", "192.0.2.2", [], []),
    ("ipv4", "192.0.2.11", "24", "", [("203.0.113.0/24", "192.0.2.9"), ("198.51.100.0/24", "0.0.0.0")], []),
    ("ipv4", "10.0.0.5", "32", "203.0.113.1", [], []),
    ("ipv4", "10.0.0.6", "255.255.255.255", "", [("10.8.0.0/16", "203.0.113.1", 50)], ["10.0.0.53"]),
    ("ipv4_dhcp",),
    ("ipv6", "2001:db8::10", "64", "2001:db8::1", [], ["2001:db8::53"]),
    ("ipv6", "2001:db8:1::10", "128", "2001:db8:9::1", [], []),
    ("ipv6", "2001:db8:2::10", "64", "fe80::1", [("2001:db8:8::/48", "2001:db8:2::2", 7)], []),
    ("ipv6_slaac",),
    ("ipv6_dhcpv6-stateful",),
]
# The fixture is made for all examples at once; what it makes is new for each.
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
some = st.lists(st.sampled_from(POOL), max_size=4, unique_by=lambda one: one[1] if len(one) > 1 else one[0])


@shared
@given(st.lists(st.tuples(some, some), min_size=1, max_size=4), st.sampled_from([None, 1400, 9000]))
def test_any_document_after_any_other(machine, many, mtu):
    made = machine([A, B])
    for first, second in many:
        links = [link(A, "тап", mtu=mtu), link(B, "b")]
        nets = [net("тап", *one) for one in first] + [net("b", *one) for one in second]
        # A lease and fixed addresses of IPv4 cannot be had together; see difference.notes.
        assert_in_force(made, network_data.parse(document(links, nets)))
        assert made.card(A).dhcp4 or any(one[0] == "ipv4" for pair in many for one in pair[0])


@shared
@given(some, some)
def test_what_an_operator_added_stays(machine, first, second):
    """Unless DHCP is switched: Windows then takes all IPv4 addresses of the NIC away."""
    made, card = machine([A]), None
    first, second = ([one for one in nets if one[0] not in ("ipv4", "ipv4_dhcp")] for nets in (first, second))
    fixed = POOL[0]
    for nets in (first, second):
        data = network_data.parse(document([link(A, "a")], [net("a", *fixed), *(net("a", *one) for one in nets)]))
        foreign = frozenset(["192.0.2.200/24", "2001:db8::200/64"]) if card else frozenset()
        assert_in_force(made, data, foreign)
        card = made.card(A)
        if not foreign:
            card.addresses += ["192.0.2.200/24", "2001:db8::200/64"]
            card.routes["203.0.113.128/25", "192.0.2.9"] = 0
    assert {"192.0.2.200/24", "2001:db8::200/64"} <= set(card.addresses)
    assert ("203.0.113.128/25", "192.0.2.9") in card.routes


class Killed(BaseException):
    pass


@pytest.mark.parametrize("when", range(9))
def test_a_run_that_was_killed_is_completed_by_the_next(machine, monkeypatch, when):
    """At any command of an edit that takes everything away but an address: nothing that was ours stays."""
    services = [{"type": "dns", "address": one, "search": ["a.example"]} for one in ("192.0.2.53", "2001:db8::53")]
    first = [net("a", *POOL[0]), net("a", *POOL[2]), net("a", *POOL[7]), dict(net("a", *POOL[6]), services=services)]
    made = machine([A])
    assert_in_force(made, network_data.parse(document([link(A, "a", mtu=1400)], first)))
    data = network_data.parse(document([link(A, "a")], [net("a", "ipv4", "192.0.2.11", "24")]))
    left = [when]

    def run(step):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return made.run(step)

    monkeypatch.setattr(netsh, "run", run)
    try:
        push(data)
    except Killed:
        assert when < 9
    monkeypatch.setattr(netsh, "run", made.run)
    assert_in_force(made, data)
    card = made.card(A)
    assert (card.routes, card.dns, card.suffix) == ({}, {"ipv4": [], "ipv6": []}, "")
