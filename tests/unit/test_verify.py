# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""verify: waits for the kernel, NIC by NIC; what bringing a NIC up does not fix is not retried for ever."""

import pytest

from cloudinit_osnetd.apply import confirmed_commit, verify
from cloudinit_osnetd.backends import Backend
from cloudinit_osnetd.core import plan
from cloudinit_osnetd.core.desired import Item, Want
from cloudinit_osnetd.core.plan import Lacking
from cloudinit_osnetd.core.records import Dns, Touch
from cloudinit_osnetd.kernel import netlink
from cloudinit_osnetd.planning.build_plan import PlanningResult
from cloudinit_osnetd.run import reapply
from cloudinit_osnetd.run.reapply import Reapplying
from cloudinit_osnetd.state import failed_retries

from .build import A, B, bond, data, dhcp, dns, document, entry, link, nic, snapshot, static, vlan

UP = nic("ens3", A, addresses=["10.0.0.5/24"])
TOUCHED = [Touch("up", A, "ens3", "")]


def want(*networks, name="ens3", **link):
    one = entry(*networks, **link)
    return Want((Item(one.key, one, name, ()),), "d")


def test_it_waits_until_the_kernel_has_it():
    seen = iter([snapshot(nic("ens3", A)), snapshot(nic("ens3", A, up=False)), snapshot(UP)])
    said = verify.verify([want(static())], TOUCHED, lambda: next(seen))
    assert said == ({}, {}, frozenset())


def test_it_says_what_is_lacking_in_the_end():
    said = verify.verify([want(static())], TOUCHED, lambda: snapshot(nic("ens3", A)), seconds=0)
    assert said.problems == {A: "after 0 s the kernel lacks 10.0.0.5/24"}


def test_it_does_not_wait_for_a_lease():
    said = verify.verify([want(dhcp())], TOUCHED, lambda: snapshot(nic("ens3", A)))
    assert said == ({}, {A: ("no DHCP lease yet",)}, frozenset([A]))


def test_it_waits_for_a_carrier_and_then_for_what_that_brings():
    bare = nic("ens3", A, carrier=False)
    seen = iter([snapshot(bare._replace(carrier=False, up=True)), snapshot(nic("ens3", A)), snapshot(UP)])
    assert verify.verify([want(static())], TOUCHED, lambda: next(seen)).findings == {}


def test_a_nic_that_gets_no_carrier_is_a_finding(monkeypatch):
    monkeypatch.setattr(verify, "_CARRIER_SECONDS", 0.02)
    bare = nic("ens3", A)._replace(carrier=False)
    said = verify.verify([want(static())], TOUCHED, lambda: snapshot(bare))
    assert (said.problems, said.findings[A][0]) == ({}, "there is no carrier")


@pytest.mark.parametrize("touches", [[], [Touch("down", A, "ens3", "")], [Touch("up", B, "ens4", "")]])
def test_it_looks_at_touched_nics_only(touches):
    said = verify.verify([want(static())], touches, lambda: snapshot(nic("ens3", A)), seconds=0)
    assert said == ({}, {}, frozenset())


SIX = "2001:db8::5"


def test_a_duplicate_address_is_not_said_to_have_been_waited_for():
    there = nic("ens3", A, addresses=["10.0.0.5/24", SIX + "/64"])
    taken = there._replace(addresses=tuple(a._replace(duplicate=":" in a.address) for a in there.addresses))
    both = want(static(), static(SIX, "ffff:ffff:ffff:ffff::"))
    duplicate = "another host has 2001:db8::5/64 too"
    assert verify.verify([both], TOUCHED, lambda: snapshot(taken)).problems == {A: duplicate}
    lacking = taken._replace(addresses=taken.addresses[1:])
    said = verify.verify([both], TOUCHED, lambda: snapshot(lacking), seconds=0)
    assert said.problems == {A: "after 0 s the kernel lacks 10.0.0.5/24; " + duplicate}


# A bond, its first member and the bond's VLANs have one MAC, as Nova and Ironic write them.
SHARED = data(
    document(
        [link(A), link(B, "tap2"), bond(A), vlan(A, "v7", 7, "bond1"), vlan(A, "v8", 8, "bond1")],
        [static("10.0.0.5", link="bond1"), static("10.7.0.5", link="v7"), dhcp("v8")],
    )
).entries
NAMES = {A + "/phy": "ens3", B + "/phy": "ens4", A + "/bond": "bond0", A + "/vlan.7": "bond0.7", A + "/vlan.8": "bond0.8"}
GROUP = Want(tuple(Item(key, one, NAMES[key], ()) for key, one in SHARED.items()), "d")
GROUP_TOUCHED = [Touch("up", one.mac, NAMES[key], "") for key, one in SHARED.items()]


def test_what_a_link_lacks_is_not_said_of_another_one_with_its_mac():
    members = [nic("ens3", A, 2, master=4), nic("ens4", B, 3, master=4)]
    there = [nic("bond0", A, 4, ["10.0.0.5/24"], virtual=True, kind="bond"), nic("bond0.8", A, 5, virtual=True, kind="vlan")]
    said = verify.verify([GROUP], GROUP_TOUCHED, lambda: snapshot(*members, *there), seconds=0)
    assert said.problems == {A + "/vlan.7": "after 0 s bond0.7 does not exist"}
    assert said.findings == {A + "/vlan.8": ("no DHCP lease yet",)}
    assert said.unleased == frozenset([A + "/vlan.8"])


def test_a_link_is_reapplied_also_after_another_one_with_its_mac(monkeypatch):
    kicks = tuple(touch._replace(action="kick") for touch in GROUP_TOUCHED if touch.name in ("bond0", "bond0.7"))
    monkeypatch.setattr(reapply, "_GRACE_SECONDS", 0.0)
    there = [nic("ens3", A, 2), nic("ens4", B, 3), nic("bond0", A, 4, virtual=True, kind="bond")]
    monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(*there))
    planned = PlanningResult((GROUP,), plan.Plan((), kicks[:1], ()), {}, {}, {}, {})
    once = Reapplying()
    assert once.touches(planned, ()) == kicks[:1]
    assert once.touches(planned._replace(plan=plan.Plan((), kicks, ())), ()) == kicks[1:], "each once in a run"


def test_the_members_of_a_bond_that_is_gone_are_brought_up_with_it(monkeypatch):
    """They lack nothing by themselves; but a bond that comes alone has none."""
    kicks = tuple(touch._replace(action="kick") for touch in GROUP_TOUCHED if touch.name in ("bond0", "ens3", "ens4"))
    monkeypatch.setattr(reapply, "_GRACE_SECONDS", 0.0)
    monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(nic("ens3", A, 2), nic("ens4", B, 3)))
    planned = PlanningResult((GROUP,), plan.Plan((), kicks, ()), {}, {}, {}, {})
    assert Reapplying().touches(planned, ()) == kicks


# -- DNS -------------------------------------------------------------------------------------------------------


class Told(Backend):
    def __init__(self, *told):
        self.told = list(told)

    def dns(self, name, ifindex):
        return self.told[0] if len(self.told) == 1 else self.told.pop(0)


NAMED = want(static(services=dns("10.0.0.2", "10.0.0.3")))
IN_USE = Dns(frozenset(["10.0.0.2", "10.0.0.3", "10.9.9.9"]))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (IN_USE, {}),
        (None, {}),
        (Dns(frozenset(["10.0.0.3"])), {A: ("DNS servers not in use: 10.0.0.2",)}),
        (Dns(frozenset(), "no resolver"), {A: ("DNS servers not in use: 10.0.0.2, 10.0.0.3 (no resolver)",)}),
    ],
)
def test_dns_servers_that_are_not_in_use_are_a_finding(told, said):
    assert verify.dns_findings(NAMED.items, Told(told), snapshot(UP)) == said


def test_a_touched_nic_has_a_moment_to_tell_its_dns_servers(monkeypatch):
    monkeypatch.setattr(verify.netlink, "snapshot", lambda: snapshot(UP))
    assert verify.await_dns([NAMED], TOUCHED, Told(Dns(frozenset()), Dns(frozenset()), IN_USE)) == {}
    assert verify.await_dns([NAMED], TOUCHED, Told(Dns(frozenset(), "never"), IN_USE)) != {}


# -- kicks -----------------------------------------------------------------------------------------------------

ROUTE = {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.99.0.1"}
LACKS = Lacking(A + "/phy", A, "ens3", 2, "the kernel lacks the route 0.0.0.0/0 via 10.99.0.1")


def made(tried, there=UP, force=False):
    return plan.make([want(static(routes=[ROUTE]))], [], {}, [], snapshot(there), "networkd", plan.Options(force, tried=tried))


def test_what_reapplying_did_not_help_is_not_reapplied_again_but_reported():
    first = made(frozenset())
    assert ([t.action for t in first.touches], first.not_retried) == (["kick"], ())
    second = made(frozenset([LACKS]))
    assert (second.touches, second.not_retried) == ((), (LACKS,))
    assert second.empty


@pytest.mark.parametrize(
    ("there", "force"),
    [
        (UP._replace(ifindex=7), False),  # another device: plugged anew
        (UP._replace(addresses=()), False),  # it lacks more
        (UP, True),
    ],
)
def test_what_is_new_is_reapplied(there, force):
    assert [t.action for t in made(frozenset([LACKS]), there, force).touches] == ["kick"]


def test_what_was_tried_is_kept_for_this_boot(guest):
    assert failed_retries.read() == frozenset()
    failed_retries.keep(frozenset([LACKS]))
    assert failed_retries.read() == frozenset([LACKS])
    failed_retries.keep(frozenset())
    assert not list(guest.rglob("kicks.json"))


def test_a_nic_without_a_carrier_is_not_reapplied():
    assert made(frozenset(), UP._replace(carrier=False)).empty


def test_what_the_backend_refused_is_told_with_what_the_kernel_lacks():
    said = verify.Verified({A: "after 30 s the MTU is 1500, not 1400"}, {}, frozenset())
    problems, findings = confirmed_commit._merge({A: "not loaded", B: "refused"}, said, frozenset())
    assert problems == {A: "not loaded; after 30 s the MTU is 1500, not 1400", B: "refused"}
    assert findings == {}


@pytest.mark.parametrize(
    ("waits", "late", "lacks", "excused"),
    [
        (True, False, "", True),  # `ifup` fails for want of a lease
        (False, False, "", False),  # what NetworkManager refuses to load never comes by itself
        (False, True, "", True),  # a slow hook; the kernel has all
        (False, True, "the link is down", False),
    ],
)
def test_a_failure_is_a_finding_where_only_a_lease_lacks_or_the_command_goes_on(waits, late, lacks, excused):
    said = verify.Verified({A: lacks} if lacks else {}, {A: ("no lease yet",)}, frozenset([A] if not late else []))
    links = confirmed_commit.may_still_succeed(said, waits, {"ens3"} if late else (), {"ens3": A})
    problems, findings = confirmed_commit._merge({A: "exit 1"}, said, links)
    if excused:
        assert (problems, findings[A]) == ({}, ("no lease yet", "exit 1"))
    else:
        assert problems[A].startswith("exit 1") and findings[A] == ("no lease yet",)
