# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""history and show: the runs that changed something, by number, and the difference of each file."""

import json

import pytest

from cloudinit_osnetd import cli
from cloudinit_osnetd.commands import history as history_command
from cloudinit_osnetd.commands import show
from cloudinit_osnetd.state import history
from cloudinit_osnetd.system import files, paths

from .build import A, B


def change(text, action="write", mac=A, name="ens3", path="/etc/ens3.network", section=""):
    return {"action": action, "mac": mac, "nic": name, "file": path, "section": section, "text": text, "reason": "new"}


def touch(mac=A, name="ens3", reason="a new NIC"):
    return {"action": "up", "mac": mac, "name": name, "reason": reason}


def record(*changes, **fields):
    return dict({"reasons": ["added"], "changes": list(changes), "touches": [touch()], "seconds": 0.25}, **fields)


def run(command, *words):
    return command.main(cli.parser().parse_args([command.__name__.rsplit(".", 1)[-1], *words]))


def test_runs_are_numbered_and_the_newest_comes_first(guest, capsys):
    for text in "abc":
        history.remember(record(change(text)))
    assert [one["run"] for one in history.read()] == [1, 2, 3]
    assert run(history_command, "-n", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["RUN", "3", "2"]
    assert lines[1].endswith("added   ens3  done")


def test_a_run_that_has_a_number_keeps_it(guest):
    # Of two runs the one that waited for others may end last.
    for number in (5, 7, 6, 7, 0):
        history.remember(record(run=number))
    assert [one["run"] for one in history.read()] == [5, 7, 6, 8, 9]


def test_a_number_is_not_used_again_when_old_records_are_dropped(guest):
    for _ in range(203):
        history.remember(record())
    kept = history.read()
    assert (len(kept), kept[0]["run"], kept[-1]["run"]) == (200, 4, 203)


def test_records_of_a_version_without_numbers_count_back_from_the_first_number(guest):
    old = [json.dumps(record(when=1.0)) + "\n" for _ in range(3)]
    files.replace(paths.HISTORY, "".join(old))
    assert [one["run"] for one in history.read()] == [1, 2, 3]
    history.remember(record())
    assert [one["run"] for one in history.read()] == [1, 2, 3, 4]


def test_a_line_that_cannot_be_read_is_left_out(guest):
    history.remember(record())
    files.replace(paths.HISTORY, files.read(paths.HISTORY) + "[1]\n{half\n")
    assert [one["run"] for one in history.read()] == [1]
    history.remember(record())
    assert [one["run"] for one in history.read()] == [1, 2]


def test_the_result_names_the_nics_that_failed_or_were_rolled_back(guest, capsys):
    history.remember(record(touches=[touch(), touch(B, "ens4")], problems={B: "no address"}))
    history.remember(record(touches=[touch(B, "ens4", "rolled back")], problems={B: "rejected"}))
    assert run(history_command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("rolled back: ens4")
    assert lines[2].endswith("failed: ens4")


def test_the_result_names_a_bond_and_not_the_nic_with_its_mac(guest, capsys):
    touches = [touch(), touch(name="bond0")]
    history.remember(record(touches=touches, problems={A: "x"}, names={A: "ens3"}))
    history.remember(record(touches=touches, problems={A + "/bond": "x"}, names={A + "/bond": "bond0"}))
    assert run(history_command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (lines[1].split("failed: ")[1], lines[2].split("failed: ")[1]) == ("bond0", "ens3")


def test_nothing_yet_is_said_and_is_no_error(guest, capsys):
    assert run(history_command) == 0
    assert "no run has changed anything" in capsys.readouterr().out
    assert run(history_command, "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_show_prints_the_reasons_and_the_difference_to_the_run_before(guest, capsys):
    history.remember(record(change("[Match]\nName=ens3\nMTU=1400\n")))
    history.remember(record(change("x\n", name="ens4", path="/etc/ens4.network")))
    history.remember(record(change("[Match]\nName=ens3\nMTU=1500\n"), commands=["networkctl reload"]))
    assert run(show) == 0
    out = capsys.readouterr().out
    assert out.startswith("run      3: done\n")
    assert "-MTU=1400\n+MTU=1500\n" in out and " Name=ens3" in out
    assert "command: networkctl reload" in out
    assert run(show, "1") == 0
    out = capsys.readouterr().out
    assert "--- /etc/ens3.network (not recorded)" in out and "+MTU=1400" in out


def test_show_tells_sections_of_one_file_apart_and_what_was_removed(guest, capsys):
    history.remember(record(change("one\n", section="ens3"), change("two\n", section="ens4")))
    history.remember(record(change(None, action="remove", section="ens4")))
    assert run(show, "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["diff"][3:] == ["-two"]


def test_a_change_that_was_rolled_back_in_the_same_run_is_shown_both_ways(guest, capsys):
    history.remember(record(change("MTU=1400\n")))
    history.remember(record(change("MTU=9000\n"), change("MTU=1400\n")))
    assert run(show, "2", "--json") == 0
    told = [line for line in json.loads(capsys.readouterr().out)["diff"] if not line.startswith(("---", "+++", "@@"))]
    assert told == ["-MTU=1400", "+MTU=9000", "-MTU=9000", "+MTU=1400"]


def test_the_difference_is_to_what_was_there_before_where_the_record_has_it(guest, capsys):
    history.remember(record(change("MTU=1400\n")))
    history.remember(record(dict(change("MTU=1500\n"), before="MTU=1400\n# mine\n"), dict(change("a\n", name="ens4", path="/etc/ens4.network"), before="")))
    assert run(show, "--json") == 0
    assert json.loads(capsys.readouterr().out)["diff"] == [
        "--- /etc/ens3.network (before)", "+++ /etc/ens3.network (after)", "@@ -1,2 +1 @@", "-MTU=1400", "-# mine", "+MTU=1500",
        "--- /etc/ens4.network (before)", "+++ /etc/ens4.network (after)", "@@ -0,0 +1 @@", "+a",
    ]  # fmt: skip


def test_what_a_run_adopted_is_not_taken_for_an_empty_file(guest, capsys):
    history.remember(record(change("MTU=1400\n")))
    history.remember(record(change(None, action="adopt")))
    history.remember(record(change("MTU=1500\n")))
    assert run(show, "3", "--json") == 0
    assert "--- /etc/ens3.network (not recorded)" in json.loads(capsys.readouterr().out)["diff"]


@pytest.mark.parametrize("number", ["0", "-1", "x"])
def test_a_number_of_runs_that_is_none_is_a_usage_error(guest, capsys, number):
    with pytest.raises(SystemExit) as ended:
        run(history_command, "-n", number)
    assert ended.value.code == 2
    assert "invalid number value" in capsys.readouterr().err


def test_an_unknown_run_is_an_error_that_names_those_that_are_kept(guest, capsys):
    assert run(show) == show.EXIT_NO_SUCH_RUN
    assert "no run has changed anything yet" in capsys.readouterr().err
    history.remember(record())
    assert run(show, "9") == show.EXIT_NO_SUCH_RUN
    assert "no run 9: runs 1 to 1 are kept" in capsys.readouterr().err
