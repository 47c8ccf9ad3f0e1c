# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The command line: exit statuses, JSON for machines, and what a service reads from them."""

import importlib
import json
import logging
import os
import subprocess
import sys

import pytest

from cloudinit_osnetd import cli
from cloudinit_osnetd.cloud_init import datasource_cache
from cloudinit_osnetd.cloud_init.eligibility import NotManaged
from cloudinit_osnetd.commands.report import decided, print_decided
from cloudinit_osnetd.core.plan import Change, Drift
from cloudinit_osnetd.core.records import Owned
from cloudinit_osnetd.run import early_boot, status
from cloudinit_osnetd.run.record import Record
from cloudinit_osnetd.state import event_queue, store
from cloudinit_osnetd.system import files, paths

from .build import A

TOP = os.path.dirname(os.path.dirname(cli.__file__))

plan_command = importlib.import_module("cloudinit_osnetd.commands.plan")
reconcile_command = importlib.import_module("cloudinit_osnetd.commands.reconcile")

ROW = Owned(A + "/phy", A, "ens3", "networkd", "/etc/x", "", "m", "d")
CHANGE = Change("write", A + "/phy", A, "ens3", "/etc/x", "", "text", ROW, "a new NIC")
DRIFT = Drift(A + "/phy", A, "ens3", "/etc/x", "edited externally")


def record(**fields):
    return Record(("operator",), (), (), (), (), (), {}, {}, (), (), passes=1, seconds=0.01, next_check=0.0)._replace(**fields)


@pytest.fixture
def root(guest, monkeypatch):
    """Root on an empty guest, with the process's logging as it was afterwards."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    log = logging.getLogger()
    handlers, level = list(log.handlers), log.level
    yield guest
    log.handlers[:] = handlers
    log.setLevel(level)


class Runs:
    """What each run of reconcile gives, in turn; an exception is raised."""

    def __init__(self, monkeypatch, *outcomes):
        self.outcomes, self.asked = list(outcomes), []
        monkeypatch.setattr(reconcile_command, "run", self.run)

    def run(self, reasons, force=False, patient=True, note=None, keep=None):
        self.asked.append((list(reasons), force, patient))
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        keep(outcome)
        event_queue.done(event_queue.taken())
        return outcome


def put(*names):
    os.makedirs(paths.QUEUE, exist_ok=True)
    for name in names:
        open(os.path.join(paths.QUEUE, name), "w").close()


# -- usage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv", [[], ["nonsense"], ["datasource"], ["datasource", "eat"], ["status", "--force"], ["boot", "--json"]]
)
def test_a_wrong_call_is_2(root, argv, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["reconcile", "--help"]])
def test_asking_for_help_is_0_also_for_those_who_are_not_root(monkeypatch, argv, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 0
    assert "cloudinit-osnetd" in capsys.readouterr().out


def test_who_is_not_root_gets_1(root, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["status"]) == 1
    assert "root" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "module", "name"),
    [
        (["status"], status, "read"),
        (["plan"], plan_command, "_report"),
        (["reconcile"], reconcile_command, "run"),
        (["datasource", "adopt"], datasource_cache, "adopt"),
    ],
)
def test_what_breaks_off_is_70_so_that_the_service_is_started_again(root, monkeypatch, argv, module, name):
    def breaks(*_args, **_fields):
        raise RuntimeError("a bug")

    monkeypatch.setattr(plan_command, "run_context", lambda remember, push: None)
    monkeypatch.setattr(module, name, breaks)
    assert cli.main(argv) == 70


def test_an_exception_is_shown():
    script = (
        "import sys; from cloudinit_osnetd import cli; cli._logging(False)\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: cli.LOG.exception('it broke off')\n"
    )
    script = "import sys; sys.path.insert(0, %r); " % TOP + script
    done = subprocess.run([sys.executable, "-I", "-c", script], stderr=subprocess.PIPE)
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert said.startswith("ERROR: it broke off\nTraceback") and said.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(("journal", "verbose", "shown"), [("", False, False), ("", True, True), ("8:9", False, False), ("its own", False, True)])
def test_what_the_output_tells_is_logged_for_the_journal(journal, verbose, shown):
    """On a terminal an operator would read it twice."""
    script = (
        "import os, sys; sys.path.insert(0, %r); from cloudinit_osnetd import cli; from cloudinit_osnetd.core.records import IN_OUTPUT\n"
        "if os.environ.get('JOURNAL_STREAM') == 'its own': os.environ['JOURNAL_STREAM'] = '%%d:%%d' %% (os.fstat(2).st_dev, os.fstat(2).st_ino)\n"
        "cli._logging(%r); cli.LOG.warning('fault: x', extra=IN_OUTPUT); cli.LOG.warning('rolling back'); cli.LOG.info('a detail')\n" % (TOP, verbose)
    )
    environment = {"JOURNAL_STREAM": journal} if journal else {}
    said = subprocess.run([sys.executable, "-I", "-c", script], stderr=subprocess.PIPE, env=environment).stderr.decode()
    assert ("fault: x" in said, "rolling back" in said) == (shown, True), said
    assert ("a detail" in said) == (verbose or journal == "its own"), said  # an agent's child has the variable, and a pipe


# -- reconcile -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (record(), 0),
        (record(changes=(CHANGE,)), 0),
        (record(drifted=(DRIFT,)), 0),
        (record(faults=("metadata: silent",)), 0),
        (record(pending=(A,)), 0),
        (record(problems={A: "no lease"}), 1),
        (NotManaged("not here"), 0),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_reconcile_is_1_when_a_nic_failed(root, monkeypatch, capsys, outcome, code, form):
    Runs(monkeypatch, outcome)
    assert cli.main(["reconcile"] + form) == code
    out = capsys.readouterr().out
    if form:
        said = json.loads(out)
        assert said["changes"] == ([] if isinstance(outcome, NotManaged) or not outcome.changes else said["changes"])
        assert said["commands"] == []
    else:
        assert out


@pytest.mark.parametrize(
    ("argv", "asked"), [([], (False, False)), (["--force"], (True, False)), (["--wait"], (False, True))]
)
def test_reconcile_hands_its_options_on(root, monkeypatch, argv, asked):
    runs = Runs(monkeypatch, record())
    cli.main(["reconcile"] + argv)
    assert runs.asked == [(["operator"],) + asked]


def test_a_run_that_changed_nothing_leaves_no_history(root, monkeypatch):
    Runs(monkeypatch, record(), record(changes=(CHANGE,)))
    cli.main(["reconcile"])
    assert not os.path.exists(paths.HISTORY)
    cli.main(["reconcile"])
    assert os.path.exists(paths.HISTORY)


def test_the_queue_is_served_until_it_is_empty_all_events_in_one_run(root, monkeypatch):
    put("0000000001.00.boot", "0000000002.00.added.ens4")

    class Busy(Runs):
        def run(self, *args, **fields):
            if not self.asked:
                put("0000000003.00.removed.ens4")
            return super().run(*args, **fields)

    runs = Busy(monkeypatch, record(), record())
    assert cli.main(["reconcile", "--queue"]) == 0
    assert [asked[0] for asked in runs.asked] == [["boot", "added"], ["removed"]]
    assert not event_queue.waiting()


def test_an_empty_queue_is_no_run(root, monkeypatch):
    runs = Runs(monkeypatch)
    assert cli.main(["reconcile", "--queue"]) == 0
    assert runs.asked == []


@pytest.mark.parametrize(
    ("outcome", "code"), [(record(), 0), (record(problems={A: "x"}), 3), (NotManaged("not here"), 0)]
)
def test_serving_the_queue_tells_of_failures(root, monkeypatch, outcome, code):
    put("0000000001.00.boot")
    Runs(monkeypatch, outcome)
    assert cli.main(["reconcile", "--queue"]) == code
    assert event_queue.take() == []


def test_the_events_of_a_run_that_broke_off_are_served_by_the_next(root, monkeypatch):
    put("0000000001.00.boot")
    runs = Runs(monkeypatch, RuntimeError("a bug"), record())
    assert cli.main(["reconcile", "--queue"]) == 70
    assert cli.main(["reconcile", "--queue"]) == 0
    assert [asked[0] for asked in runs.asked] == [["boot"], ["boot"]]
    assert event_queue.take() == []


# -- status ----------------------------------------------------------------------------------------------------


def report(*states):
    rows = [status.NicStatus("ens3", A, "k", state, "drive", (), 1500, "") for state in states]
    return {
        "instance_id": "i",
        "datasource": "ConfigDrive",
        "boot": {"level": "store"},
        "hands_off": "",
        "backend": "networkd",
        "metadata_via": "",
        "nics": [dict(row._asdict()) for row in rows],
    }


@pytest.mark.parametrize(
    ("states", "code"),
    [((), 0), (("ok", "absent", "pending", "orphan", "doubted", "drifted", "ignored"), 0), (("ok", "failed"), 1)],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_status_is_1_when_a_nic_has_failed(root, monkeypatch, capsys, states, code, form):
    monkeypatch.setattr(status, "read", lambda: report(*states))
    assert cli.main(["status"] + form) == code
    out = capsys.readouterr().out
    shown = [row["state"] for row in json.loads(out)["nics"]] if form else [s for s in states if s in out.split()]
    assert shown == list(states)


# -- plan, boot, datasource --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("problems", "code"), [({}, 0), ({A: "not rendered"}, 1)])
def test_plan_is_1_when_a_nic_could_not_be_planned(root, monkeypatch, problems, code):
    monkeypatch.setattr(plan_command, "run_context", lambda remember, push: None)
    monkeypatch.setattr(plan_command, "_report", lambda on, args, push: decided((), (), (), (), problems, (), {}))
    assert cli.main(["plan"]) == code


@pytest.mark.parametrize(("words", "changes", "code"), [(["--exit-code"], [CHANGE], 7), (["--exit-code"], [], 0), ([], [CHANGE], 0)])
def test_plan_tells_by_its_exit_status_whether_anything_would_be_done(root, monkeypatch, words, changes, code):
    monkeypatch.setattr(plan_command, "run_context", lambda remember, push: None)
    monkeypatch.setattr(plan_command, "_report", lambda on, args, push: decided(changes, (), (), (), {}, (), {}))
    assert cli.main(["plan", *words]) == code


def test_plan_with_hands_off_is_0_and_says_why(root, monkeypatch, capsys):
    def off(remember, push):
        raise NotManaged("not here")

    monkeypatch.setattr(plan_command, "run_context", off)
    assert cli.main(["plan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hands_off"] == "not here"


@pytest.mark.parametrize(
    ("outcome", "code", "noted"),
    [
        ({"changes": 0}, 0, {"changes": 0}),
        (NotManaged("x"), 0, {"hands_off": "x"}),
        (OSError(28), 1, {"error": repr(OSError(28))}),
    ],
)
def test_boot_notes_what_it_did_and_never_breaks_off(root, monkeypatch, outcome, code, noted):
    def early():
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(early_boot, "early", early)
    assert cli.main(["boot"]) == code
    with open(paths.EARLY) as fh:
        assert json.load(fh) == noted
    assert not os.path.exists(paths.BOOT), "cloud-init's to write"


@pytest.mark.parametrize("to", ["adopt", "release"])
def test_datasource_is_1_when_the_pickle_cannot_be_had(root, monkeypatch, to, capsys):
    monkeypatch.setattr(datasource_cache, to, lambda: "done")
    assert cli.main(["datasource", to]) == 0

    def broken():
        raise datasource_cache.PickleError("obj.pkl cannot be read")

    monkeypatch.setattr(datasource_cache, to, broken)
    assert cli.main(["datasource", to]) == 1
    assert "obj.pkl" in capsys.readouterr().err


def test_no_cached_datasource_is_nothing_to_re_class(tmp_path):
    assert datasource_cache.adopt(str(tmp_path / "obj.pkl")) == "no cached datasource"


@pytest.mark.parametrize("raw", [b"", b"no pickle", b"cno.such\nThing\n."])
def test_a_pickle_that_cannot_be_read_stays_as_it_is(tmp_path, raw):
    path = tmp_path / "obj.pkl"
    path.write_bytes(raw)
    with pytest.raises(datasource_cache.PickleError):
        datasource_cache.adopt(str(path))
    assert path.read_bytes() == raw
    assert os.listdir(str(tmp_path)) == ["obj.pkl"]


def test_another_clouds_datasource_stays_as_it_is(tmp_path):
    import pickle

    path = tmp_path / "obj.pkl"
    path.write_bytes(pickle.dumps(store.empty("x")))
    before = path.read_bytes()
    assert "left as it is" in datasource_cache.adopt(str(path))
    assert path.read_bytes() == before


def test_in_what_a_drifted_nic_differs_is_shown_line_by_line(capsys):
    drift = DRIFT._replace(reason="differs from what network_data says", differs=("+ mtu 1450", "- mtu 1500"))
    report = decided((), (), (drift,), (), {}, (), {})
    assert report["drifted"][0]["differs"] == ("+ mtu 1450", "- mtu 1500")
    print_decided(report)
    assert capsys.readouterr().out.splitlines() == [
        "no change",
        "drifted, left alone: ens3: differs from what network_data says (/etc/x)",
        "    + mtu 1450",
        "    - mtu 1500",
    ]


@pytest.mark.parametrize("earlier", [True, False])
def test_the_record_for_status_is_for_root_only(root, earlier):
    """A drifted part's lines are in it, of files such as netplan's or NetworkManager's, which nobody else may read."""
    if earlier:
        files.replace(paths.STATUS, "{}", mode=0o644)
    reconcile_command.note(record(drifted=(DRIFT._replace(differs=("- password=x",)),)))
    assert "password=x" in files.read(paths.STATUS)
    assert os.stat(paths.STATUS).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "x"])
@pytest.mark.parametrize("words", [["apply", "--forget"], ["confirm"], ["rollback"]], ids=repr)
def test_a_time_to_wait_is_a_number_that_ends(words, seconds, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.parser(words[0]).parse_args([*words, "--timeout", seconds])
    assert ended.value.code == 2 and "invalid number of seconds value" in capsys.readouterr().err
    assert cli.parser(words[0]).parse_args([*words, "--timeout", "0"]).timeout == 0
