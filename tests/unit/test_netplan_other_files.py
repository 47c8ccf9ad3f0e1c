# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""other_files: which NICs netplan's files configure, ours and foreign ones."""

import pytest

from cloudinit_osnetd.backends.netplan import other_files
from cloudinit_osnetd.backends.netplan.backend import Netplan
from cloudinit_osnetd.backends.netplan.other_files import FILE
from cloudinit_osnetd.core.desired import Item
from cloudinit_osnetd.kernel import alternative_names
from cloudinit_osnetd.system import files

from .build import A, entry, static

BACKEND = Netplan()
ENS3 = Item(A + "/phy", entry(static(), mac=A), "ens3", ())


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """netplan's directories below tmp_path."""
    monkeypatch.setattr(other_files, "TOP", str(tmp_path))
    return tmp_path


def configure(machine, theirs, ours):
    """An administrator's file and ours; the path of his."""
    path = "/etc/netplan/60-admin.yaml"
    files.replace(str(machine) + path, "network: {version: 2, %s}\n" % theirs)
    files.replace(str(machine) + FILE, "network: {version: 2, %s}\n" % ours)
    return path


@pytest.mark.parametrize(
    ("theirs", "claimed"),
    [
        ("ethernets: {ens3: {mtu: 1400}}", True),
        ("bonds: {ens3: {}}", True),
        ("ethernets: {ens4: {mtu: 1400}}", False),
        ("ethernets: {a: {match: {macaddress: 'FA:16:3E:00:00:01'}}}", True),
        ("ethernets: {a: {match: {macaddress: 'fa:16:3e:00:00:02'}}}", False),
        ("ethernets: {all-en: {match: {name: 'en*'}, dhcp4: true}}", True),
        ("ethernets: {all-eth: {match: {name: 'eth*'}, dhcp4: true}}", False),
        ("ethernets: {all: {match: {name: 'en*', macaddress: 'fa:16:3e:00:00:02'}}}", False),
        ("ethernets: {zz-all: {match: {name: 'en*'}, dhcp4: true}}", False),
        ("ethernets: {ens3-x: {match: {name: 'en*'}, dhcp4: true}}", True),  # 10-netplan-ens3-x.network comes first
        ("ethernets: {storage: {match: {macaddress: 'fa:16:3e:00:00:01'}}}", False),
        ("renderer: networkd", False),
    ],
)
def test_a_nic_in_which_another_file_has_a_say_is_left_to_it(machine, theirs, claimed):
    path = configure(machine, theirs, "ethernets: {ens3: {}}")
    assert BACKEND.claimed([ENS3]) == ({"ens3": path} if claimed else {})


def test_a_directory_that_is_called_like_a_file_is_none(machine):
    configure(machine, "ethernets: {ens4: {}}", "ethernets: {ens3: {}}")
    (machine / "etc/netplan/10-x.yaml").mkdir()
    assert other_files.paths() == [FILE, "/etc/netplan/60-admin.yaml"]


@pytest.mark.parametrize(
    ("theirs", "claimed"),
    [
        ("ethernets: {storage: {match: {macaddress: 'FA:16:3E:00:00:01'}}}", True),
        ("ethernets: {storage: {match: {name: ens3}}}", True),
        ("ethernets: {storage: {match: {macaddress: 'fa:16:3e:00:00:01', name: ens3}}}", True),
        ("ethernets: {storage: {match: {macaddress: 'fa:16:3e:00:00:02'}}}", False),
        ("ethernets: {zz-all: {match: {name: 'en*'}, dhcp4: true}}", False),
        ("ethernets: {zz-all: {match: {}, dhcp4: true}}", False),
        ("ethernets: {zz-all: {match: {driver: virtio_net}, dhcp4: true}}", False),
        ("vlans: {ens3.5: {id: 5, link: ens3}}", False),
    ],
)
def test_a_nic_that_somebody_has_taken_care_of_is_not_taken_over(machine, theirs, claimed):
    path = configure(machine, theirs, "ethernets: {ens9: {}}")
    expected = {"ens3": path} if claimed else {}
    assert (BACKEND.configured_elsewhere([ENS3]), BACKEND.claimed([ENS3])) == (expected, expected)


@pytest.mark.parametrize(
    ("theirs", "claimed"),
    [
        ("ethernets: {enp0s3: {dhcp4: true}}", True),
        ("ethernets: {enp0s3: null}", True),
        ("ethernets: {a: {match: {name: 'enp*'}}}", True),
        ("ethernets: {zz-a: {match: {name: 'enp*'}}}", False),
        ("ethernets: {enp0s4: {dhcp4: true}}", False),
        ("bonds: {enp0s3: {}}", False),
    ],
)
def test_each_name_of_a_nic_counts(machine, monkeypatch, theirs, claimed):
    monkeypatch.setattr(alternative_names, "of_links", lambda: {"ens3": ("enp0s3",), "ens4": ("enp0s4",)})
    path = configure(machine, theirs, "ethernets: {ens3: {}}")
    assert BACKEND.claimed([ENS3]) == ({"ens3": path} if claimed else {})


def test_what_somebody_has_built_on_is_reported(machine):
    theirs = "vlans: {v5: {id: 5, link: ens3}}, bridges: {br0: {interfaces: [ens4, ens5]}}, ethernets: {ens6: {}}"
    ours = "vlans: {ens7.5: {id: 5, link: ens7}, ens8.5: {id: 5, link: ens8}}"
    path = configure(machine, theirs, ours)
    assert BACKEND.referred({(FILE, "ens7.5")}) == {
        "ens3": "v5 of " + path,
        "ens4": "br0 of " + path,
        "ens5": "br0 of " + path,
        "ens8": "ens8.5 of " + FILE,
    }


def test_a_file_below_run_hides_the_one_of_its_name_below_etc(machine):
    files.replace(str(machine / "etc/netplan/60-x.yaml"), "network: {version: 2, ethernets: {ens3: {}}}\n")
    files.replace(str(machine / "run/netplan/60-x.yaml"), "network: {version: 2}\n")
    assert BACKEND.claimed([ENS3]) == {}


def test_an_unreadable_file_of_somebody_else_claims_nothing(machine):
    files.replace(str(machine / "etc/netplan/60-x.yaml"), "network: [\n")
    assert BACKEND.claimed([ENS3]) == {}


@pytest.mark.parametrize(
    ("files_", "why"),
    [
        ({}, ""),
        ({"etc/netplan/01-nm.yaml": "network: {version: 2, renderer: NetworkManager}\n"}, "NetworkManager (/etc/netplan/01-nm.yaml)"),
        ({"etc/netplan/01-d.yaml": "network: {version: 2, renderer: networkd}\n"}, ""),
        # The later file has the last word, and one below /run hides its namesake.
        (
            {
                "etc/netplan/01-nm.yaml": "network: {renderer: NetworkManager}\n",
                "run/netplan/60-d.yaml": "network: {renderer: networkd}\n",
            },
            "",
        ),
        ({"etc/netplan/01-x.yaml": "# renderer: NetworkManager\nnetwork: {version: 2}\n"}, ""),
        ({"etc/netplan/01-x.yaml": "network: [renderer\n"}, ""),
    ],
)
def test_where_netplan_hands_the_nics_to_network_manager_we_stay_away(machine, files_, why):
    for path, text in files_.items():
        files.replace(str(machine / path), text)
    assert BACKEND.unfit() == (why and "netplan's renderer is " + why)
