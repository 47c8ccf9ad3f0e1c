# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The override: found before cloud-init's own classes, and harmless, from level to level."""

import json

import pytest
from cloudinit import sources

from cloudinit_osnetd.cloud_init import network_config
from cloudinit_osnetd.core import network_data, truth
from cloudinit_osnetd.core.records import Owned
from cloudinit_osnetd.sources import DataSourceConfigDrive, DataSourceOpenStack, ladder
from cloudinit_osnetd.state import store
from cloudinit_osnetd.system import files, paths
from tests.unit.build import A, B, C, bond, document, link, static, vlan

from .datasources import TWO, UUID, make, names

FILESYSTEM, NETWORK = sources.DEP_FILESYSTEM, sources.DEP_NETWORK


# -- found by cloud-init ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "depends", "found"),
    [
        (["ConfigDrive"], [FILESYSTEM], ["DataSourceConfigDrive"]),
        (["OpenStack"], [FILESYSTEM], ["DataSourceOpenStackLocal"]),
        (["OpenStack"], [FILESYSTEM, NETWORK], ["DataSourceOpenStack"]),
        (["ConfigDrive", "OpenStack"], [FILESYSTEM], ["DataSourceConfigDrive", "DataSourceOpenStackLocal"]),
        (["ConfigDrive"], [FILESYSTEM, NETWORK], []),
    ],
)
def test_cloud_init_finds_our_classes_first(names, depends, found):
    classes = sources.list_sources(names, depends, ["cloudinit_osnetd.sources", "", "cloudinit.sources"])
    assert [cls.__name__ for cls in classes] == found
    assert {cls.__module__.split(".")[0] for cls in classes} <= {"cloudinit_osnetd"}


def test_every_other_datasource_is_still_cloud_inits_own():
    (cls,) = sources.list_sources(["NoCloud"], [FILESYSTEM], ["cloudinit_osnetd.sources", "", "cloudinit.sources"])
    assert cls.__module__ == "cloudinit.sources.DataSourceNoCloud"


# -- from level to level ---------------------------------------------------------------------------------------------


def drive(doc, fresh=True):
    return make(DataSourceConfigDrive.DataSourceConfigDrive, doc, fresh)


def metadata(doc, fresh=True):
    return make(DataSourceOpenStack.DataSourceOpenStackLocal, doc, fresh)


def level():
    noted = files.read_json(paths.BOOT)
    return noted["level"] if noted else None


def addresses(config):
    return sorted(subnet.get("address") for item in config["config"] for subnet in item.get("subnets", []))


def remember(doc, *macs, source="metadata", instance=UUID):
    known = truth.observe(truth.EMPTY, source, network_data.parse(doc), 0.0)
    rows = tuple(Owned(mac + "/phy", mac, "ens", "networkd", "/x/" + mac, "", "m", "d") for mac in macs)
    store.save(store.empty(instance, rows)._replace(truth=known))


MAKERS = pytest.mark.parametrize(("maker", "document_level"), [(drive, "drive"), (metadata, "metadata")])


@MAKERS
def test_without_a_store_the_document_serves(two_nics, maker, document_level):
    assert names(maker(TWO).network_config) == ["ens3", "ens4"]
    assert level() == document_level


@MAKERS
def test_a_link_that_has_no_nic_is_left_out(guest, maker, document_level):
    guest.nic("ens4", B)
    assert names(maker(TWO).network_config) == ["ens4"]
    assert level() == document_level


def test_the_store_outranks_what_the_drive_says_since_its_creation(two_nics):
    newer = document([link(), link(B, "tap2")], [static("10.0.0.77"), static("10.1.0.77", link="tap2")])
    remember(newer)
    assert addresses(drive(TWO).network_config) == ["10.0.0.77", "10.1.0.77"]
    assert level() == "store"


def test_an_edit_that_the_metadata_service_tells_at_boot_is_taken(two_nics):
    remember(TWO, source="metadata")
    edited = document([link(), link(B, "tap2")], [static("10.0.0.77"), static("10.1.0.5", link="tap2")])
    assert addresses(metadata(edited).network_config) == ["10.0.0.77", "10.1.0.5"]
    assert level() == "store"


def test_what_cloud_init_took_from_its_cache_is_not_heard_again(two_nics):
    remember(TWO, source="metadata")
    stale = document([link()], [static("10.0.0.1")])
    assert addresses(metadata(stale, fresh=False).network_config) == ["10.0.0.5", "10.1.0.5"]


def test_a_nic_attached_since_is_configured_from_the_store_though_no_drive_lists_it(two_nics):
    remember(TWO)
    assert names(drive(document([link()], [static()])).network_config) == ["ens3", "ens4"]
    assert level() == "store"


def test_a_store_of_another_instance_is_none(two_nics):
    remember(document([link()], [static("10.0.0.77")]), instance="another")
    assert addresses(drive(TWO).network_config) == ["10.0.0.5", "10.1.0.5"]
    assert level() == "drive"


def test_a_damaged_store_is_none(two_nics):
    files.replace(paths.STORE, "{")
    assert names(drive(TWO).network_config) == ["ens3", "ens4"]
    assert level() == "drive"


@pytest.mark.parametrize("bad", [{}, {"links": 7}, {"links": [], "networks": 7}, [], "x"], ids=repr)
def test_a_document_that_says_nothing_is_served_by_what_was_good_last(two_nics, bad):
    files.replace(paths.STATE + "/keep", "")  # the package's state directory is there
    good = drive(TWO).network_config
    assert drive(bad).network_config == good
    assert json.loads(files.read(paths.BOOT))["levels"] == ["drive", "last-good"]


def test_what_was_good_on_another_instance_is_not(two_nics):
    files.replace(
        paths.STATE + "/last-good.json", json.dumps({"instance_id": "another", "config": {"version": 1, "config": []}})
    )
    chosen = ladder.choose("drive", {}, True, UUID, lambda: "built in")
    assert chosen[:2] == ("built in", "built-in")


@pytest.mark.parametrize(("comes", "level", "asked"), [(1, "drive", 2), (9, "built-in", 4), (0, "built-in", 1)])
def test_a_level_is_tried_again_only_where_a_nic_came_or_went_meanwhile(tmp_path, monkeypatch, comes, level, asked):
    monkeypatch.setattr(paths, "KERNEL_NICS", str(tmp_path))
    tries = []

    def config(*_args):
        tries.append(1)
        if len(tries) <= comes:
            (tmp_path / ("ens%d" % len(tries))).touch()
        if len(tries) <= max(comes, 1):
            raise OSError("a NIC has gone")
        return {"version": 1, "config": []}

    monkeypatch.setattr(ladder, "_config", config)
    document = {"links": [], "networks": [], "services": []}
    assert ladder.choose("drive", document, True, UUID, lambda: "built in")[1] == level
    assert len(tries) == asked


@MAKERS
def test_no_document_is_the_built_in_classs_business(guest, maker, document_level):
    for nothing in (None, sources.UNSET):
        assert not maker(nothing).network_config
    assert level() is None


def test_one_bad_link_costs_no_other(two_nics):
    bad = dict(TWO, links=[dict(TWO["links"][0], mtu="x"), TWO["links"][1]])
    assert names(drive(bad).network_config) == ["ens4"]
    assert "links[0].mtu" in " ".join(files.read_json(paths.BOOT)["problems"])


def test_a_store_that_fails_to_convert_is_passed_over(two_nics, monkeypatch):
    remember(TWO)
    real = network_config.build
    calls = []

    def fails_once(wants, convert):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a bug")
        return real(wants, convert)

    monkeypatch.setattr(network_config, "build", fails_once)
    assert names(drive(TWO).network_config) == ["ens3", "ens4"]
    assert level() == "drive"
    assert "a bug" in " ".join(files.read_json(paths.BOOT)["problems"])


def test_the_first_answer_of_a_boot_is_the_level_that_is_noted(two_nics):
    source = drive(TWO)
    assert source.network_config
    remember(TWO)
    assert source.network_config
    assert files.read_json(paths.BOOT)["levels"] == ["drive", "store"]
    assert level() == "drive"


def test_where_nothing_of_ours_works_the_drive_is_still_filtered(guest, monkeypatch):
    guest.nic("ens4", B)

    def broken(*_args):
        raise RuntimeError("half installed")

    monkeypatch.setattr(ladder, "choose", broken)
    assert names(drive(TWO).network_config) == ["ens4"]
    assert level() == "bare-drive"


@pytest.mark.parametrize(
    ("links", "macs", "kept"),
    [
        ([link(), link(B, "tap2")], [A, B], ["tap1", "tap2"]),
        ([link(), link(B, "tap2")], [B], ["tap2"]),
        ([link(mac=A.upper())], [A], ["tap1"]),
        ([link(), link(B, "tap2"), bond()], [A], ["tap1", "bond1"]),
        ([link(), link(B, "tap2"), bond()], [], []),
        ([link(), vlan()], [A], ["tap1", "vlan1"]),
        ([link(), vlan()], [], []),
        ([link(), link(B, "tap2"), bond(), vlan(C, parent="bond1")], [B], ["tap2", "bond1", "vlan1"]),
        ([link(), vlan(), bond(members=["tap1"])], [], []),
    ],
)
def test_the_filter_of_the_override_file_itself(monkeypatch, links, macs, kept):
    monkeypatch.setattr(DataSourceConfigDrive, "system_nics", lambda: {mac: "ens%d" % i for i, mac in enumerate(macs)})
    doc = document(links, [static(link=raw["id"]) for raw in links])
    found = DataSourceConfigDrive.present_links(doc)
    assert [raw["id"] for raw in found["links"]] == kept
    assert [net["link"] for net in found["networks"]] == kept
    assert all(m in kept for raw in found["links"] for m in raw.get("bond_links", []))


def test_the_macs_of_this_machine_are_reported(two_nics):
    found = DataSourceConfigDrive.system_nics()
    assert (found[A], found[B]) == ("ens3", "ens4")


def test_an_infiniband_port_is_known_by_the_six_octets_that_openstack_has(monkeypatch):
    long = "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:1a:b2:c3"
    here = {"/sys/class/net/ib0/address": long, "/sys/class/net/ens3/address": A}
    listed = {"/sys/class/net/*": ["/sys/class/net/ens3", "/sys/class/net/ib0"]}
    monkeypatch.setattr(DataSourceConfigDrive.glob, "glob", lambda pattern: listed.get(pattern, []))
    monkeypatch.setattr(DataSourceConfigDrive, "_content", lambda path: here.get(path, ""))
    monkeypatch.setattr(DataSourceConfigDrive.openstack.net, "get_ib_hwaddrs_by_interface", lambda: {"ib0": long})
    doc = document([link("00:02:c9:1a:b2:c3"), link(A, "tap2")], [static(), static("10.1.0.5", link="tap2")])
    made = DataSourceConfigDrive.convert(doc)["config"]
    assert [(one["name"], one["type"], one["mac_address"]) for one in made if "name" in one] == [
        ("ib0", "infiniband", long),
        ("ens3", "physical", A),
    ]


@pytest.mark.parametrize("renderer", ["eni", "sysconfig"])
def test_nothing_will_be_renamed(two_nics, renderer):
    source = drive(TWO)
    assert source.network_config
    assert (source.distro.renderer_configs.get(renderer) or {"netrules_path": None})["netrules_path"] is None
