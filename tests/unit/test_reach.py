# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""reach: through which NIC the metadata service is asked, and who is listened to."""

import pytest

from cloudinit_osnetd import reach, source
from cloudinit_osnetd.kernel import Route
from cloudinit_osnetd.network_data import Refused

from .build import A, B, C, data, nic, one_nic, snapshot

V4 = ["10.0.0.5/24"]
DATA = data(one_nic())


def default(index, metric=0):
    return Route("0.0.0.0/0", "10.0.0.1", index, metric)


ENS3, ENS4, ENS5 = nic("ens3", A, 2, V4), nic("ens4", B, 3, V4), nic("ens5", C, 4, V4)


@pytest.mark.parametrize(
    ("nics", "routes", "answered", "order"),
    [
        ([ENS3, ENS4], [], "", ["ens3", "ens4"]),
        ([ENS3, ENS4], [default(3)], "", ["ens4", "ens3"]),
        ([ENS3, ENS4], [default(2, 200), default(3, 100)], "", ["ens4", "ens3"]),
        ([ENS3, ENS4], [default(2, 50), default(2, 200), default(3, 100)], "", ["ens3", "ens4"]),
        ([ENS3, ENS4], [default(3)], A, ["ens3", "ens4"]),
        ([ENS3, ENS4], [default(3)], "fa:16:3e:00:00:77", ["ens4", "ens3"]),
        ([ENS3._replace(up=False), ENS4], [], A, ["ens4"]),
        ([ENS3._replace(addresses=()), ENS4], [], A, ["ens4"]),
        ([ENS3._replace(virtual=True), ENS4], [], A, ["ens4"]),
        ([nic("ens3", A, 2, ["fd00::5/64"])], [], A, []),
        ([], [], A, []),
    ],
)
def test_the_one_that_answered_last_goes_first_then_the_default_route(nics, routes, answered, order):
    found = reach.candidates(snapshot(*nics, routes=routes), answered)
    assert [one.name for one in found] == order


class World:
    """What is behind each NIC: data, or what asking it raises."""

    def __init__(self, monkeypatch, **behind):
        self.behind, self.asked = behind, []
        monkeypatch.setattr(source, "fetch", self.fetch)

    def fetch(self, device, instance_id):
        assert instance_id == "i"
        self.asked.append(device)
        if isinstance(self.behind[device], Exception):
            raise self.behind[device]
        return self.behind[device]


def ask(answered=""):
    return reach.ask(snapshot(ENS3, ENS4, ENS5), answered, "i")


def test_only_the_first_is_asked_when_it_answers(monkeypatch):
    world = World(monkeypatch, ens3=DATA)
    assert ask() == reach.Answer(DATA, A, ())
    assert world.asked == ["ens3"]


@pytest.mark.parametrize("silence", [source.SourceError("timed out"), source.Foreign("of another server")])
def test_the_next_is_asked_where_one_is_silent_or_a_stranger_answers(monkeypatch, silence):
    world = World(monkeypatch, ens3=silence, ens4=DATA)
    assert ask() == reach.Answer(DATA, B, (str(silence),))
    assert world.asked == ["ens3", "ens4"]


def test_the_right_service_with_nothing_to_say_is_not_replaced_by_a_neighbour(monkeypatch):
    world = World(monkeypatch, ens3=Refused("network_data", "has no links"), ens4=DATA)
    answer = ask()
    assert (answer.data, answer.mac) == (None, A)
    assert world.asked == ["ens3"]


def test_nobody_answers(monkeypatch):
    World(monkeypatch, **{name: source.SourceError(name + " silent") for name in ("ens3", "ens4", "ens5")})
    answer = ask(B)
    assert (answer.data, answer.mac) == (None, "")
    assert answer.problems == ("ens4 silent", "ens3 silent", "ens5 silent")


def test_nobody_can_be_asked():
    answer = reach.ask(snapshot(), "", "i")
    assert (answer.data, answer.mac, len(answer.problems)) == (None, "", 1)
