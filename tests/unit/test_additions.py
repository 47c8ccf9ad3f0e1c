# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""additions: what others have made of our parts, compared with what the ledger says that was written."""

from types import SimpleNamespace

import pytest

from cloudinit_osnetd.backends import of_renderer
from cloudinit_osnetd.core import digest
from cloudinit_osnetd.core.plan import Staged
from cloudinit_osnetd.core.records import Owned
from cloudinit_osnetd.planning import additions
from cloudinit_osnetd.system import files

from .build import A, B

BACKEND = of_renderer("network-manager")
OURS = "[connection]\nid=x\nuuid=u\ntype=ethernet\n\n[ipv4]\nmethod=manual\naddress1=10.0.0.5/24\ndns=10.0.0.2;\n"
EDITED = OURS.replace("10.0.0.5", "10.0.0.6")
ZONE = OURS.replace("type=ethernet\n", "type=ethernet\nzone=work\n")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "cloud-init-ens3.nmconnection")


def mark(text):
    return digest.of_text(BACKEND.normal(text))


def row(path, written=OURS, key=A + "/phy", backend=BACKEND.name):
    return Owned(key, A, "ens3", backend, path, "", mark(OURS), "d1", written=written)


def part(path, key=A + "/phy"):
    return Staged(key, A, "ens3", path, "", EDITED, mark(EDITED), "d2")


def kept(path, text, ledger, drift="report", parts=None):
    on = SimpleNamespace(backend=BACKEND, context=SimpleNamespace(settings=SimpleNamespace(drift=drift)))
    if text is not None:
        files.replace(path, text)
    disk = {} if text is None else {(path, ""): mark(text)}
    return additions.kept(on, ledger, [part(path)] if parts is None else parts, disk)


def test_what_was_added_is_in_the_new_part_and_not_in_what_is_noted_as_ours(path):
    (one,), followed = kept(path, ZONE, [row(path)])
    assert "zone=work" in one.text and "10.0.0.6" in one.text
    assert (one.rendered, one.fingerprint, followed) == (EDITED, mark(one.text), {(path, "")})


def test_also_where_a_run_had_seen_it(path):
    (one,), _followed = kept(path, ZONE, [row(path)._replace(disk=mark(ZONE))])
    assert "zone=work" in one.text


@pytest.mark.parametrize(
    ("text", "ledger", "drift", "followed"),
    [
        (OURS, {}, "report", False),  # as it was written
        (None, {}, "report", False),
        (OURS.replace("id=x\nuuid=u", "uuid=u\nid=x"), {}, "report", True),
        (OURS.replace("10.0.0.2", "10.0.0.9"), {}, "report", False),
        (ZONE, {"written": ""}, "report", False),  # an older version's row
        (ZONE, {"backend": "eni"}, "report", False),
        (ZONE, {}, "correct", False),
        (OURS.replace("id=x\nuuid=u", "uuid=u\nid=x"), {}, "correct", True),
    ],
)
def test_what_is_not_followed_is_rendered_as_ever(path, text, ledger, drift, followed):
    (one,), places = kept(path, text, [row(path, **ledger)], drift)
    assert (one.text, one.rendered, bool(places)) == (EDITED, "", followed)


def test_another_nic_of_the_same_name_gets_nothing_of_it(path):
    (one,), followed = kept(path, ZONE, [row(path)], parts=[part(path, B + "/phy")])
    assert (one.text, followed) == (EDITED, {(path, "")})


def test_changes_are_told_in_the_words_of_a_meaning(path):
    def changes(text):
        files.replace(path, text)
        return additions.changes(BACKEND, [row(path)], {(path, ""): mark(text)}).get((path, ""))

    assert changes(OURS) is None
    assert changes(ZONE) == additions.Change(True, ("connection.zone work",))
    assert changes(OURS.replace("10.0.0.2", "10.0.0.9")) == additions.Change(False, ("+ dns 10.0.0.2", "- dns 10.0.0.9"))
