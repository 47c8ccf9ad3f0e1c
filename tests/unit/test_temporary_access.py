# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""temporary_access: what was set up is removed again, and what other software did to the NIC in the meantime stays.

The kernel is a stand-in here; a lease on a real one is a scenario's (tests/scenarios/test_source_faults.py).
"""

import os
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from cloudinit_osnetd import cloud_init
from cloudinit_osnetd.kernel import netlink
from cloudinit_osnetd.openstack import temporary_access
from cloudinit_osnetd.system import paths
from cloudinit_osnetd.system.command import CommandError

from .build import A, B, nic, snapshot

LEASED, THEIRS = "10.0.0.5/24", "10.0.0.9/24"


class NoLease(Exception):
    """compat's."""


class Died(BaseException):
    """The run is killed."""


class Guest:
    """One NIC, and what `ip` does to it."""

    def __init__(self):
        self.nic = nic("ens4", A, 5, [], up=False)
        self.routes = []
        self.lease_fails = self.dies = False
        self.meanwhile = lambda: None

    def snapshot(self):
        return snapshot(self.nic)

    def have(self, *addresses, **fields):
        self.nic = nic(self.nic.name, self.nic.mac, self.nic.ifindex, list(addresses), **dict({"up": self.nic.up}, **fields))

    @property
    def addresses(self):
        return [a.address for a in self.nic.addresses]

    def run(self, argv, **_options):
        if self.dies:
            raise Died
        words = [word for word in argv[1:] if word not in ("-4", "dev")]
        if words[:2] == ["link", "set"]:
            self.have(*self.addresses, up=words[3] == "up")
        elif words[:3] == ["-6", "address", "add"] and words[-1] == "nodad":
            self.have(*self.addresses, words[3])
        elif words[:3] == ["-6", "address", "del"]:
            self.have(*[a for a in self.addresses if a != words[3]])
        elif words[:2] == ["addr", "del"]:
            self.have(*[a for a in self.addresses if a != words[2]])
        elif words[:2] == ["route", "add"]:
            self.routes.append(words[2:])
        elif words[2:] in self.routes:
            self.routes.remove(words[2:])
        else:
            raise CommandError("ip: no such thing: %s" % words)

    @contextmanager
    def lease(self, name):
        """As cloud-init's: it sets the link up and, from 22.4 on some releases, down again."""
        self.have(*self.addresses, up=True)
        self.meanwhile()
        if self.lease_fails:
            raise NoLease("no lease")
        self.have(*self.addresses, LEASED)
        yield LEASED.partition("/")[0]
        if not self.dies:
            self.have(*[a for a in self.addresses if a != LEASED], up=False)


@pytest.fixture
def here(guest, monkeypatch):
    made = Guest()
    os.makedirs(paths.RUN)
    monkeypatch.setattr(paths, "TEMPORARY_ACCESS", paths.RUN + "/temporary-access.json")
    monkeypatch.setattr(temporary_access, "run", made.run)
    monkeypatch.setattr(netlink, "snapshot", made.snapshot)
    monkeypatch.setattr(cloud_init, "compat", SimpleNamespace(lease=made.lease, NoLease=NoLease), raising=False)
    return made


def noted():
    return os.path.exists(paths.RUN + "/temporary-access.json")


@pytest.mark.parametrize("up", [False, True])
def test_a_lease_leaves_the_nic_as_it_was(here, up):
    here.have(up=up)
    with temporary_access.opened("lease", here.nic, ""):
        assert here.addresses == [LEASED] and noted()
    assert (here.addresses, here.nic.up, noted()) == ([], up, False)


@pytest.mark.parametrize("fails", [False, True], ids=["leased", "no lease"])
def test_what_others_give_the_nic_meanwhile_stays(here, fails):
    here.lease_fails = fails
    here.meanwhile = lambda: here.have(*here.addresses, THEIRS)
    try:
        with temporary_access.opened("lease", here.nic, ""):
            assert not fails
    except temporary_access.NotOpened:
        assert fails
    assert here.addresses == [THEIRS] and not noted()


def test_a_link_that_others_have_set_up_since_it_was_looked_at_stays_up(here):
    looked_at = here.nic
    here.have(up=True)
    here.lease_fails = True
    with pytest.raises(temporary_access.NotOpened), temporary_access.opened("lease", looked_at, ""):
        pass
    assert here.nic.up


def die_in(here, kind, gateway=""):
    access = temporary_access.opened(kind, here.nic, gateway)
    access.__enter__()
    here.dies = True
    with pytest.raises(Died):
        access.__exit__(Died, Died(), None)
    here.dies = False
    assert noted()


def test_the_next_run_takes_a_dead_one_s_lease_away_and_no_other_address(here):
    die_in(here, "lease")
    here.have(LEASED, THEIRS)
    temporary_access.close_leftovers()
    assert (here.addresses, noted()) == ([THEIRS], False)


@pytest.mark.parametrize(("after", "left"), [(5, []), (5000, [LEASED])])
def test_of_one_that_died_before_it_knew_its_lease_only_what_came_at_once_is_taken(here, monkeypatch, after, left):
    temporary_access._write_note(temporary_access.TemporaryAccess(5, A, temporary_access.time.monotonic(), down=True, before=[]))
    here.have(LEASED, up=True)
    now = temporary_access.time.monotonic() + after
    monkeypatch.setattr(temporary_access.time, "monotonic", lambda: now)
    temporary_access.close_leftovers()
    assert (here.addresses, here.nic.up, noted()) == (left, bool(left), False)


@pytest.mark.parametrize("other", [{"mac": B}, {"ifindex": 6}], ids=repr)
def test_another_nic_of_that_name_is_not_touched(here, other):
    die_in(here, "lease")
    here.have(LEASED, up=True)
    here.nic = here.nic._replace(**other)
    temporary_access.close_leftovers()
    assert (here.addresses, here.nic.up, noted()) == ([LEASED], True, False)


def test_a_host_route_goes_as_it_came(here):
    here.have("10.0.0.7/24", up=True)
    with temporary_access.opened("gateway", here.nic, "10.0.0.1"):
        assert len(here.routes) == 1 and noted()
    assert here.routes == [] and not noted()
    die_in(here, "gateway", "10.0.0.1")
    temporary_access.close_leftovers()
    assert here.routes == [] and not noted()


@pytest.mark.parametrize("text", ["[]", "{", '{"x": 1}', '[["ip", "link"]]', "7"])
def test_a_note_that_cannot_be_read_is_put_away(here, text):
    with open(paths.RUN + "/temporary-access.json", "w") as fh:
        fh.write(text)
    temporary_access.close_leftovers()
    assert here.nic.up is False


OWN = "fe80::f816:3eff:fe00:1"


@pytest.mark.parametrize(
    ("mac", "address"),
    [(A, OWN), ("02:00:00:00:00:00", "fe80::ff:fe00:0"), ("00:00:5e:00:53:01", "fe80::200:5eff:fe00:5301")],
)
def test_the_link_local_address_of_a_mac(mac, address):
    assert temporary_access.link_local_of(mac) == address


def test_the_link_local_address_of_the_mac_is_there_for_the_request_alone(here):
    there = ["fe80::6512:22ed:79f5:6042/64"]
    here.have(*there, up=True)
    with temporary_access.opened("eui64", here.nic, "") as source:
        assert source == OWN and here.addresses == there + [OWN + "/128"]
    assert here.addresses == there and not os.path.exists(paths.TEMPORARY_ACCESS)
    # A run that is killed leaves it to the next one.
    with pytest.raises(Died), temporary_access.opened("eui64", here.nic, ""):
        here.dies = True
    here.dies = False
    assert here.addresses == there + [OWN + "/128"]
    temporary_access.close_leftovers()
    assert here.addresses == there


def test_the_request_waits_until_the_kernel_has_made_the_address_usable(here, monkeypatch):
    """It is tentative for a moment with `nodad` too, and no socket can be bound to it."""
    here.have("fe80::6512:22ed:79f5:6042/64", up=True)
    looks = []

    def looked():
        looks.append(here.nic)
        late = [a._replace(tentative=a.address.startswith(OWN) and len(looks) < 3) for a in here.nic.addresses]
        return snapshot(here.nic._replace(addresses=tuple(late)))

    monkeypatch.setattr(netlink, "snapshot", looked)
    with temporary_access.opened("eui64", here.nic, ""):
        assert len(looks) == 3


def test_nothing_is_added_where_that_address_is_or_where_the_link_is_down(here):
    for addresses, up in (([OWN + "/64"], True), ([], False)):
        here.have(*addresses, up=up)
        with pytest.raises(temporary_access.NotOpened), temporary_access.opened("eui64", here.nic, ""):
            pass
        assert here.addresses == addresses
