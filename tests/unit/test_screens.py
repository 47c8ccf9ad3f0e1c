# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What the other commands print, word by word at 80 columns. `status` and `doctor` have their own files."""

import json
import time

import pytest

from cloudinit_osnetd import cli
from cloudinit_osnetd.cloud_init.eligibility import NotManaged
from cloudinit_osnetd.commands import apply, confirm, plan, reconcile, rollback
from cloudinit_osnetd.commands.reconcile import as_json
from cloudinit_osnetd.commands.report import decided
from cloudinit_osnetd.core.plan import Change, Drift
from cloudinit_osnetd.core.records import Touch
from cloudinit_osnetd.kernel import netlink
from cloudinit_osnetd.run.confirmation import Answer
from cloudinit_osnetd.run.record import Record
from cloudinit_osnetd.run.undo import NothingToUndo
from cloudinit_osnetd.state import history, run_lock

from .build import A, B, C, document, link, nic, snapshot

NOW = 1767225600.0  # 2026-01-01 00:00 UTC
FILE = "/etc/systemd/network/10-cloud-init-%s.network"
OLD, NEW = "[Match]\nName=ens4\n\n[Link]\nMTUBytes=1450\n", "[Match]\nName=ens4\n\n[Link]\nMTUBytes=1380\n"


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def change(mac, name, old, new, reason, action="write"):
    return Change(action, mac + "/phy", mac, name, FILE % name, "", new, None, reason, old)


def record(**fields):
    base = Record(("push",), (), (), (), (), (), {}, {}, (), (), 1, 0.84, 0.0, run=7)
    return base._replace(**fields)


FULL = record(
    changes=(change(B, "ens4", OLD, NEW, "its entry changed"), change(C, "ens5", OLD, None, "the NIC is gone", "remove")),
    touches=(Touch("reconfigure", B, "ens4", "its entry changed"), Touch("down", C, "ens5", "the NIC is gone")),
    drifted=(Drift(A + "/phy", A, "ens3", FILE % "ens3", "changed externally", ("+ mtu 1450", "- mtu 1400")),),
    commands=("networkctl reload",),
    findings={B: ("the carrier is down: nothing is plugged in at the other end of this cable, as far as can be told",)},
    problems={B: "no address 10.91.0.77/24; no route 0.0.0.0/0 via 10.91.0.1: 30 s after the change the kernel does not show it"},
    names={B: "ens4"},
)

DECIDED = """\
ACTION       NIC   MAC                REASON
write        ens4  fa:16:3e:00:00:02  its entry changed
    /etc/systemd/network/10-cloud-init-ens4.network
remove       ens5  fa:16:3e:00:00:03  the NIC is gone
    /etc/systemd/network/10-cloud-init-ens5.network
reconfigure  ens4  fa:16:3e:00:00:02  its entry changed
down         ens5  fa:16:3e:00:00:03  the NIC is gone
drifted, left alone: ens3: changed externally
    (/etc/systemd/network/10-cloud-init-ens3.network)
    + mtu 1450
    - mtu 1400
finding: fa:16:3e:00:00:02: the carrier is down: nothing is plugged in at the
    other end of this cable, as far as can be told
FAILED: ens4 (fa:16:3e:00:00:02): no address 10.91.0.77/24; no route 0.0.0.0/0
    via 10.91.0.1: 30 s after the change the kernel does not show it
"""
NEXT = """\
next: ens4: `cloudinit-osnetd show` has what was run; try again with
    `cloudinit-osnetd reconcile`
next: ens3: see `cloudinit-osnetd plan --force --diff`; `reconcile --force`
    overwrites the edit
"""
REJECTED = """\
no change
FAILED: ens4 (fa:16:3e:00:00:02): rejected until 2026-01-01 00:15:00, because
    after the change not reachable: the gateway for 0.0.0.0/0 (10.91.0.77)
next: ens4: %s
"""
HISTORY = """\
RUN  TIME                 REASON           NICS        RESULT
8    2026-01-01 00:00:00  added, operator  ens6        done
7    2026-01-01 00:00:00  push             ens4, ens5  failed: ens4
"""
SHOWN = """\
run      7: failed: ens4
time     2026-01-01 00:00:00, 0.8 s
reason   push

%scommand: networkctl reload

--- /etc/systemd/network/10-cloud-init-ens4.network (before)
+++ /etc/systemd/network/10-cloud-init-ens4.network (after)
@@ -2,4 +2,4 @@
 Name=ens4
 
 [Link]
-MTUBytes=1450
+MTUBytes=1380
--- /etc/systemd/network/10-cloud-init-ens5.network (before)
+++ /etc/systemd/network/10-cloud-init-ens5.network (after)
@@ -1,5 +0,0 @@
-[Match]
-Name=ens4
-
-[Link]
-MTUBytes=1450
"""  # noqa: W293 - a context line of a diff that is empty


def screen(capsys, *words):
    """The exit status, and what is printed to both, in at most 80 columns."""
    code = cli.main(list(words))
    out, err = capsys.readouterr()
    assert all(len(line) <= 80 for line in out.splitlines()), out
    return code, out, err


def pushing(monkeypatch, then):
    def run(*_args, **_options):
        if isinstance(then, Exception):
            raise then
        return then

    for name, value in (("run", run), ("_await_cloud_init", lambda _until: None), ("announce", lambda _report: None)):
        monkeypatch.setattr(apply, name, value)


def test_what_was_done_nic_by_nic(monkeypatch, capsys):
    pushing(monkeypatch, FULL)
    assert screen(capsys, "apply", "--forget") == (1, DECIDED + NEXT, "")


def test_what_was_rolled_back_and_what_to_do_about_it(monkeypatch, capsys):
    why = "rejected until 2026-01-01 00:15:00, because after the change not reachable: the gateway for 0.0.0.0/0 (10.91.0.77)"
    for reason, step in (
        ("push", "push a corrected document, drop what was pushed with\n    `cloudinit-osnetd apply --forget`, or try it again with `cloudinit-osnetd\n    reconcile --force`"),
        ("operator", "`cloudinit-osnetd status` says what to do"),
    ):
        run = record(reasons=(reason,), problems={B: why}, names={B: "ens4"})
        pushing(monkeypatch, run)
        monkeypatch.setattr(reconcile, "run", lambda *_args, run=run, **_options: run)
        assert screen(capsys, *(["apply", "--forget"] if reason == "push" else ["reconcile"])) == (1, REJECTED % step, "")


def test_nothing_to_do_and_a_push_on_trial(monkeypatch, capsys):
    pushing(monkeypatch, record(confirm_by=NOW + 120))
    told = "nothing to do\nnot confirmed: it is taken back in 120 s unless `cloudinit-osnetd confirm` comes\n    before\n"
    assert screen(capsys, "apply", "--forget", "--confirm-within", "120") == (0, told, "")


def test_a_push_that_changes_nothing_says_why(monkeypatch, capsys):
    nothing = "cloudinit-osnetd: nothing was changed: another run is at work"
    pushing(monkeypatch, run_lock.Busy("another run is at work"))
    assert screen(capsys, "apply", "--forget") == (6, "", nothing + "\n")
    assert screen(capsys, "apply", "{}") == (3, "", "cloudinit-osnetd: refused, nothing was changed: network_data: has no links\n")


DIFF = """\
--- /etc/systemd/network/10-cloud-init-ens4.network (now)
+++ /etc/systemd/network/10-cloud-init-ens4.network (then)
@@ -2,4 +2,4 @@
 Name=ens4
 
 [Link]
-MTUBytes=1450
+MTUBytes=1380
"""  # noqa: W293 - a context line of a diff that is empty


def test_a_plan_and_the_difference_of_each_file(guest, monkeypatch, capsys):
    planned = decided(FULL.changes[:1], FULL.touches[:1], (), (), {}, (), {})
    monkeypatch.setattr(plan, "run_context", lambda **_options: None)
    monkeypatch.setattr(plan, "_report", lambda _on, args, _push: dict(planned, diff=DIFF.splitlines()) if args.diff else planned)
    rows = [line for line in DECIDED.splitlines(True)[:5] if "ens5" not in line]
    assert screen(capsys, "plan") == (0, "".join(rows + [DECIDED.splitlines(True)[5]]), "")
    assert screen(capsys, "plan", "--diff", "--exit-code") == (7, "".join(rows + [DECIDED.splitlines(True)[5]]) + DIFF, "")

    def unmanaged(**_options):
        raise NotManaged("the datasource is NoCloud, not OpenStack's")

    monkeypatch.setattr(plan, "run_context", unmanaged)
    assert screen(capsys, "plan", "--exit-code") == (0, "not managed: the datasource is NoCloud, not OpenStack's\n", "")


def test_runs_and_one_of_them(guest, capsys):
    assert screen(capsys, "history") == (0, "no run has changed anything on this instance yet\n", "")
    history.remember(as_json(FULL))
    history.remember(as_json(record(reasons=("operator", "added"), run=8, touches=(Touch("up", C, "ens6", "a new NIC"),))))
    assert screen(capsys, "history") == (0, HISTORY, "")
    assert screen(capsys, "show", "7") == (0, SHOWN % DECIDED, "")


def test_the_ends_of_a_trial(monkeypatch, capsys):
    for answer, end in (
        (Answer(7), (0, "confirmed: the push of run 7 stays\n", "")),
        (Answer(0), (8, "", "cloudinit-osnetd: nothing to confirm: no push waits for it\n")),
        (Answer(0, "it was taken back"), (9, "", "cloudinit-osnetd: too late: it was taken back\n")),
    ):
        monkeypatch.setattr(confirm, "confirm", lambda _timeout, answer=answer: answer)
        assert screen(capsys, "confirm") == end


def test_a_document_of_another_server_or_of_a_nic_to_come(monkeypatch, capsys):
    pushing(monkeypatch, record())
    monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(nic("ens3", A)))
    told = "nothing to do\nabsent: fa:16:3e:00:00:02: no NIC has this MAC; it is configured when it comes\n"
    assert screen(capsys, "apply", json.dumps(document([link(), link(B, "tap2")], []))) == (0, told, "")
    assert json.loads(screen(capsys, "apply", "--json", json.dumps(document([link()], [])))[1])["absent"] == []


@pytest.mark.parametrize(("pushed", "code"), [([A], 1), ([B], 0)])
def test_a_pushed_nic_that_is_left_alone_is_not_done(pushed, code, monkeypatch, capsys):
    pushing(monkeypatch, record(drifted=FULL.drifted))
    monkeypatch.setattr(netlink, "snapshot", lambda: snapshot(nic("ens3", A), nic("ens4", B)))
    raw = json.dumps(document([link(mac, "tap%d" % n) for n, mac in enumerate(pushed)], []))
    told = "no change\n" + DECIDED[DECIDED.index("drifted") : DECIDED.index("finding")] + NEXT[NEXT.index("next: ens3") :]
    assert screen(capsys, "apply", raw) == (code, told, "")


def test_a_terminal_that_is_wide_has_the_files_in_the_table(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "110")
    pushing(monkeypatch, record(changes=FULL.changes, touches=FULL.touches))
    assert cli.main(["apply", "--forget"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "ACTION       NIC   MAC                FILE                                             REASON",
        "write        ens4  fa:16:3e:00:00:02  /etc/systemd/network/10-cloud-init-ens4.network  its entry changed",
    ]


def test_a_rollback_that_has_nothing_to_do_says_why(monkeypatch, capsys):
    monkeypatch.setattr(rollback, "run", lambda *_args, **_options: record(reasons=("rollback",)))
    monkeypatch.setattr(rollback, "announce", lambda _report: None)
    assert screen(capsys, "rollback") == (0, "nothing to do: the NICs are as they were before that run\n", "")


def test_nothing_to_roll_back(monkeypatch, capsys):
    def run(*_args, **_options):
        raise NothingToUndo("nothing to roll back: no run has changed anything on this instance yet")

    monkeypatch.setattr(rollback, "run", run)
    told = "cloudinit-osnetd: nothing to roll back: no run has changed anything on this\n    instance yet\n"
    assert screen(capsys, "rollback") == (8, "", told)
