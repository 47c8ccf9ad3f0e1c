# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""yaml_file: a NIC's definition is replaced, and everything else is kept byte for byte, or by meaning."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd.backends.netplan import yaml_file
from cloudinit_osnetd.backends.netplan.yaml_file import NotNetplan, join, meaning, part, split

CLOUD = """\
# This file is generated from information provided by the datasource.
network:
    version: 2
    ethernets:
        ens3:
            addresses:
            - 10.0.0.5/24
            match:
                macaddress: fa:16:3e:00:00:01
            set-name: ens3

        # The admin's own words on ens4.
        ens4:
            dhcp4: true
    vlans:
        ens3.5:
            id: 5
            link: ens3
# The end.
"""
ENS4 = "        ens4:\n            dhcp4: true\n"
ENS9 = part("ethernets", "ens9", {"dhcp4": True, "match": {"macaddress": "fa:16:3e:00:00:09", "name": "ens9"}})
ENS9_LINES = """\
        ens9:
          dhcp4: true
          match:
            macaddress: fa:16:3e:00:00:09
            name: ens9
"""
VLANS = "    vlans:\n        ens3.5:\n            id: 5\n            link: ens3\n"


def test_a_definition_is_a_part_with_its_group():
    parts = split(CLOUD)
    assert sorted(parts) == ["ens3", "ens3.5", "ens4"]
    assert parts["ens4"] == "ethernets:\n  ens4:\n    dhcp4: true\n"
    assert yaml_file.only(parts["ens3.5"]) == ("vlans", "ens3.5", {"id": 5, "link": "ens3"})


@pytest.mark.parametrize("text", ["", "# nothing\n", "network: {version: 2}\n", "network:\n  version: 2\n  ethernets:\n"])
def test_a_file_may_have_no_definition(text):
    assert split(text) == {}


@pytest.mark.parametrize("text", ["network: [", "network: 7\n", "7\n", "a: b\n", "network:\n\tx: 1\n", "\x00"])
def test_a_file_that_is_none_of_netplans_is_refused(text):
    with pytest.raises(NotNetplan):
        split(text)
    with pytest.raises(OSError, match="not a netplan file"):
        join(text, {"ens9": ENS9})


def test_a_new_nic_comes_behind_the_others_and_no_other_byte_changes():
    assert join(CLOUD, {"ens9": ENS9}) == CLOUD.replace(ENS4, ENS4 + ENS9_LINES)


def test_a_nic_goes_and_no_other_byte_changes():
    assert join(CLOUD, {"ens4": None}) == CLOUD.replace(ENS4, "")
    assert join(CLOUD, {"ens3.5": None}) == CLOUD.replace(VLANS, "")


def test_a_nic_is_replaced_in_its_place():
    new = part("ethernets", "ens4", {"dhcp6": True})
    assert join(CLOUD, {"ens4": new}) == CLOUD.replace("            dhcp4: true\n", "          dhcp6: true\n")


def test_what_goes_and_comes_back_leaves_the_file_as_it_was():
    assert join(join(CLOUD, {"ens9": ENS9}), {"ens9": None}) == CLOUD


def test_a_group_comes_with_its_first_definition_and_goes_with_its_last():
    bond = part("bonds", "bond0", {"interfaces": ["ens3", "ens4"]})
    with_bond = join(CLOUD, {"bond0": bond})
    assert yaml.safe_load(with_bond)["network"]["bonds"] == {"bond0": {"interfaces": ["ens3", "ens4"]}}
    assert join(with_bond, {"bond0": None}) == CLOUD


def test_a_definition_may_move_to_another_group():
    moved = join(CLOUD, {"ens4": part("bonds", "ens4", {"interfaces": []})})
    network = yaml.safe_load(moved)["network"]
    assert "ens4" not in network["ethernets"]
    assert network["bonds"] == {"ens4": {"interfaces": []}}


@pytest.mark.parametrize("old", [None, "", "\n"])
def test_a_file_that_is_not_there_is_made(old):
    assert join(old, {"ens9": ENS9}) == "network:\n  version: 2\n" + _indented(ENS9)


def test_the_last_nic_leaves_a_file_that_netplan_takes():
    assert join(join(None, {"ens9": ENS9}), {"ens9": None}) == "network:\n  version: 2\n"


@pytest.mark.parametrize(
    "old",
    [
        "network: {version: 2, ethernets: {ens4: {dhcp4: true}}}\n",
        "network:\n  version: 2\n  ethernets: {ens4: {dhcp4: true}}\n",
        "network:\n  version: 2\n  ethernets:\n    ens4: &base\n      dhcp4: true\n    ens5: *base\n",
        "network:\n  version: 2\n  ethernets:\n",
        "network:\n  version: 2\n  renderer: networkd",
        "---\nnetwork:\n  version: 2\n  ethernets:\n    ens4:\n      dhcp4: true\n...\n",
        "network:\n  ethernets:\n    ens4:\n      # note\n      dhcp4: true\n  version: 2\n",
        "network:\n  ethernets:\n    ens4: {}\n  version: 2\n",
        "network:\n  ethernets:\n    ens4:\n      x: |\n        text\n\n  version: 2\n",
        "# note\nnetwork:\r\n  version: 2\r\n  ethernets:\r\n    ens4:\r\n      dhcp4: true\r\n",
    ],
)
def test_any_style_of_file_is_carried_along_by_meaning(old):
    before = yaml.safe_load(old)["network"]
    new = join(old, {"ens9": ENS9})
    after = yaml.safe_load(new)["network"]
    assert after["ethernets"].pop("ens9") == {
        "dhcp4": True,
        "match": {"macaddress": "fa:16:3e:00:00:09", "name": "ens9"},
    }
    assert after["ethernets"] == (before.get("ethernets") or {})
    gone = yaml.safe_load(join(new, {"ens9": None, "ens4": None}))["network"]
    assert "ens4" not in gone.get("ethernets", {})


def test_a_mac_that_yaml_takes_for_a_number_stays_as_it_is_written():
    old = "network: {version: 2, ethernets: {ens4: {macaddress: 52:54:00:12:34:56}}}\n"
    assert "52:54:00:12:34:56" in join(old, {"ens9": ENS9})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ethernets: {ens9: {dhcp4: true, mtu: 1450}}", "ethernets:\n  ens9:\n    mtu: 1450\n    dhcp4: yes\n", True),
        ("ethernets: {ens9: {mtu: 1450}}", "ethernets: {ens9: {mtu: 1400}}", False),
        ("ethernets: {ens9: {}}", "bonds: {ens9: {}}", False),
    ],
)
def test_meaning_is_what_yaml_says(one, other, same):
    assert (meaning(one) == meaning(other)) == same


_NAMES = st.sampled_from(["ens3", "ens4", "eth0", "bond0", "ens3.5"])
_BODIES = st.fixed_dictionaries({}, optional={"dhcp4": st.booleans(), "mtu": st.integers(1, 9000), "addresses": st.lists(st.just("10.0.0.1/8"), min_size=1)})  # fmt: skip
_GROUPED = st.sampled_from(["ethernets", "bonds", "vlans"])
_FILLING = st.sampled_from(["", "\n", "# note\n", "      # deep\n"])


@given(
    st.dictionaries(_NAMES, st.tuples(_GROUPED, _BODIES)),
    st.dictionaries(_NAMES, st.none() | st.tuples(_GROUPED, _BODIES)),
    st.lists(_FILLING, min_size=20, max_size=20),
)
def test_whatever_changes_in_a_file_with_any_comments_the_rest_means_what_it_meant(there, changes, fillings):
    network = {"version": 2}
    for name, (group, body) in there.items():
        network.setdefault(group, {})[name] = body
    lines = yaml.safe_dump({"network": network}).splitlines(keepends=True)
    text = "".join(line + filling for line, filling in zip(lines, fillings + [""] * len(lines)))
    new = join(text, {name: part(c[0], name, c[1]) if c else None for name, c in changes.items()})
    found = {name: (group, body or {}) for name, (group, body) in yaml_file.definitions(yaml_file.load(new)).items()}
    wanted = dict(there, **{name: change for name, change in changes.items()})
    assert found == {name: value for name, value in wanted.items() if value is not None}


def _indented(text):
    return "".join("  " + line + "\n" for line in text.splitlines())
