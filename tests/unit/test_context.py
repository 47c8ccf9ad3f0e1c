# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""context: the `osnetd:` key of the configuration, and what is remembered of cloud-init's answer."""

import datetime
import glob
import json
import logging
import os
import sys
import types
from collections import namedtuple

import pytest

from cloudinit_osnetd.cloud_init import context, instance
from cloudinit_osnetd.cloud_init.context import Settings, parse_settings
from cloudinit_osnetd.system import files, paths

Cloud = namedtuple("Cloud", "renderer renderer_config disabled_by settings updates")


def test_nothing_said_is_the_default():
    assert parse_settings({}) == Settings()


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ({"enabled": False}, {"enabled": False}),
        ({"ignore": ["ens4", "FA:16:3E:00:00:01"]}, {"ignore": frozenset(["ens4", "fa:16:3e:00:00:01"])}),
        ({"ignore": []}, {"ignore": frozenset()}),
        ({"ignore": None, "metadata_nic": None, "patience": None}, {}),
        ({"ignore": "ens4"}, {"ignore": frozenset(["ens4"])}),
        ({"metadata_nic": "FA:16:3E:00:00:01"}, {"metadata_nic": "fa:16:3e:00:00:01"}),
        ({"metadata_nic": ""}, {"metadata_nic": ""}),
        # What YAML 1.1 makes of 52:54:00:12:34:56 and 99:00:00:00:00:09 without quotes.
        ({"ignore": [41135085296, "eth1"]}, {"ignore": frozenset(["52:54:00:12:34:56", "eth1"])}),
        ({"metadata_nic": 99 * 60**5 + 9}, {"metadata_nic": "99:00:00:00:00:09"}),
        ({"debounce": 3}, {"debounce": 3.0}),
        ({"debounce": 0}, {"debounce": 0.0}),
        ({"patience": 0.5, "look_until": 60, "back_off": 10}, {"patience": 0.5, "look_until": 60.0, "back_off": 10.0}),
    ],
)
def test_each_setting_is_read(raw, read):
    assert parse_settings(raw) == Settings()._replace(**read)


@pytest.mark.parametrize(
    "raw",
    [
        {"enabled": "no"},
        {"enabled": 0},
        {"debounce": "3"},
        {"debounce": -1},
        {"debounce": True},
        {"patience": "90"},
        {"patience": float("nan")},
        {"look_until": [1]},
        {"rejected_for": float("inf")},
        {"debounce": 10**400},
        {"unheard_of": 1},
        {7: 1},
    ],
    ids=repr,
)
def test_what_cannot_be_used_is_named_and_left_at_its_default(raw, caplog):
    with caplog.at_level(logging.WARNING):
        assert parse_settings(dict(raw, back_off=5)) == Settings(back_off=5.0)
    (name,) = raw
    assert "osnetd.%s" % name in caplog.text


@pytest.mark.parametrize(
    "raw",
    [
        {"ignore": [4]},
        {"ignore": ["ens4", 4.5]},
        {"ignore": {"ens4": True}},
        {"ignore": "ens4, ens5"},
        {"ignore": ["a name that is too long"]},
        {"ignore": "52:54:00"},
        {"metadata_nic": "ens4"},
        {"metadata_nic": "fa-16-3e-00-00-01"},
        {"metadata_nic": 7},
        {"metadata_nic": ["fa:16:3e:00:00:01"]},
    ],
    ids=repr,
)
def test_whom_to_leave_alone_and_whom_to_ask_have_no_default_to_fall_back_on(raw, caplog):
    read = parse_settings(dict(raw, back_off=5))
    (name,) = raw
    assert read.invalid.startswith("osnetd.%s: invalid: " % name) and read.invalid in caplog.text.replace("unknown or ", "")
    assert read == Settings(back_off=5.0, invalid=read.invalid)


@pytest.fixture
def cloud(guest, monkeypatch):
    """cloud-init's answer, and how often it was asked. Importing the real one is what is to be saved."""
    compat = types.ModuleType("cloudinit_osnetd.cloud_init.compat")
    compat.asked = 0
    compat.answer = Cloud("eni", {"eni_path": "/x"}, "", {"debounce": 3}, {})

    def ask():
        compat.asked += 1
        return compat.answer

    compat.cloud = ask
    monkeypatch.setitem(sys.modules, "cloudinit_osnetd.cloud_init.compat", compat)
    monkeypatch.setattr(sys.modules["cloudinit_osnetd.cloud_init"], "compat", compat, raising=False)
    return compat


def test_cloud_init_is_asked_once(cloud):
    first = context.load()
    assert context.load() == first
    assert first.renders_with == ("eni", {"eni_path": "/x"})
    assert first.settings.debounce == 3.0
    assert cloud.asked == 1


def test_it_is_asked_again_when_what_it_depends_on_has_changed(cloud):
    context.load()
    user_data("#cloud-config\n")
    cloud.answer = cloud.answer._replace(renderer="networkd")
    assert context.load().renderer == "networkd"
    assert cloud.asked == 2


def user_data(text, instance_id="uuid"):
    """As cloud-init's network stage writes it, at each boot."""
    files.replace(paths.INSTANCE_ID[0], instance_id + "\n")
    files.replace(instance.cloud_config(), text)


def test_an_upgrade_of_ours_asks_again(cloud, monkeypatch):
    context.load()
    monkeypatch.setattr(context, "__version__", "9.9")
    context.load()
    assert cloud.asked == 2


def test_what_another_version_remembered_is_no_answer(cloud):
    context.load()
    kept = files.read_json(paths.CONTEXT)
    for other in (dict(kept, fingerprint="0123"), dict(kept, settings=7), dict(kept, fingerprint=7), {"renderer": "x"}):
        files.replace(paths.CONTEXT, json.dumps(other))
        assert context.load(booting=True).renderer == "eni"
    assert cloud.asked == 5


@pytest.mark.parametrize("kind", ["directory", "link to nothing", "pipe"])
def test_what_is_no_file_among_the_drop_ins_is_passed_over(cloud, tmp_path, monkeypatch, kind):
    """As cloud-init does (util.read_conf_d)."""
    odd = tmp_path / "x.cfg"
    {"directory": odd.mkdir, "link to nothing": lambda: odd.symlink_to("nowhere"), "pipe": lambda: os.mkfifo(str(odd))}[kind]()
    monkeypatch.setattr(glob, "glob", lambda _pattern: [str(odd)])
    assert context.load() == context.load()
    assert cloud.asked == 1


@pytest.mark.parametrize("half", ["", "#cloud-config\n\nosnetd: {ign"])
def test_at_early_boot_a_cloud_config_that_is_being_written_is_not_taken_for_a_new_one(cloud, half):
    user_data("#cloud-config\n\nosnetd: {ignore: [ens4]}\n")
    cloud.answer = cloud.answer._replace(settings={"ignore": ["ens4"]})
    whole = context.load()
    user_data(half)
    cloud.answer = cloud.answer._replace(settings={})
    assert context.load(booting=True) == whole
    assert cloud.asked == 1
    assert context.load() != whole, "by the next run cloud-init has written it"
    assert cloud.asked == 2


def test_but_that_of_another_instance_is(cloud):
    user_data("#cloud-config\n")
    context.load()
    user_data("", "other")
    context.load(booting=True)
    assert cloud.asked == 2


def test_what_was_written_while_it_was_read_is_read_again(cloud, monkeypatch):
    user_data("#cloud-config\n")
    writes = ["", "#cloud-config\n\nosnetd: {debounce: 7}\n"]
    ask = sys.modules["cloudinit_osnetd.cloud_init.compat"].cloud

    def while_it_is_written():
        if writes:
            user_data(writes.pop(0))
            cloud.answer = cloud.answer._replace(settings={} if writes else {"debounce": 7})
        return ask()

    cloud.cloud = while_it_is_written
    assert context.load().settings.debounce == 7.0
    assert context.load().settings.debounce == 7.0
    assert cloud.asked == 3


def test_what_changes_all_the_time_is_not_remembered(cloud, caplog):
    ask, count = cloud.cloud, []

    def while_it_is_written():
        count.append(1)
        user_data("# %d\n" % len(count))
        return ask()

    cloud.cloud = while_it_is_written
    assert context.load().renderer == "eni"
    assert not os.path.exists(paths.CONTEXT) and "changes while it is read" in caplog.text


def test_only_looking_remembers_nothing(cloud):
    context.load(remember=False)
    assert not os.path.exists(paths.STATE)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"fingerprint": "x"}'])
def test_a_damaged_memory_is_no_memory(cloud, text):
    files.replace(paths.CONTEXT, text)
    assert context.load().renderer == "eni"


@pytest.mark.parametrize(
    "odd", [{datetime.date(2026, 1, 1): 1}, {1: 1, "a": 2}, {"a": datetime.date(2026, 1, 1)}, {(1, 2): 3}], ids=repr
)
def test_what_yaml_can_say_and_json_cannot_stops_nobody(cloud, odd):
    cloud.answer = cloud.answer._replace(updates=odd)
    assert context.load().renderer == "eni"
    assert context.load().renderer == "eni"
