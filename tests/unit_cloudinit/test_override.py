# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The override: found before cloud-init's own classes, and harmless, from rung to rung, whatever is missing."""

import json
import os
import pickle
import shutil
import stat
import subprocess
import sys

import pytest
from cloudinit import helpers, settings, sources, stages

from cloudinit_osnetd import desired, files, kernel, netconfig, network_data, paths, pickled, store, truth
from cloudinit_osnetd.sources import DataSourceConfigDrive, DataSourceOpenStack, ladder
from tests.unit.build import A, B, C, bond, dns, document, link, static, vlan

FILESYSTEM, NETWORK = sources.DEP_FILESYSTEM, sources.DEP_NETWORK
PACKAGE = os.path.dirname(os.path.dirname(ladder.__file__))
UUID = "1b2c0000-0000-0000-0000-00000000000a"
TWO = document([link(mtu=1450), link(B, "tap2")], [static(), static("10.1.0.5", link="tap2")], dns("10.9.9.9"))


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


# -- a datasource, as cloud-init makes it ----------------------------------------------------------------------


def distro():
    init = stages.Init(ds_deps=[])
    init.read_cfg()
    return init.distro


def make(cls, doc, fresh=True):
    found = cls(
        settings.CFG_BUILTIN, distro(), helpers.Paths({"run_dir": "/run/cloud-init", "cloud_dir": "/var/lib/cloud"})
    )
    found.metadata = {"instance-id": UUID, "uuid": UUID}
    found.network_json = doc
    if fresh:
        found.osnetd_fresh = True
    return found


def drive(doc, fresh=True):
    return make(DataSourceConfigDrive.DataSourceConfigDrive, doc, fresh)


def metadata(doc, fresh=True):
    return make(DataSourceOpenStack.DataSourceOpenStackLocal, doc, fresh)


def rung():
    noted = files.read_json(paths.BOOT)
    return noted["rung"] if noted else None


def names(config):
    return sorted(item["name"] for item in config["config"] if item["type"] not in ("nameserver", "loopback"))


def addresses(config):
    return sorted(subnet.get("address") for item in config["config"] for subnet in item.get("subnets", []))


def remember(doc, *macs, source="metadata", instance=UUID):
    known = truth.observe(truth.EMPTY, source, network_data.parse(doc), 0.0)
    rows = tuple(store.Owned(mac + "/phy", mac, "ens", "networkd", "/x/" + mac, "", "m", "d") for mac in macs)
    store.save(store.empty(instance, rows)._replace(truth=known))


@pytest.fixture
def two_nics(guest):
    guest.nic("ens3", A)
    guest.nic("ens4", B)
    return guest


MAKERS = pytest.mark.parametrize(("maker", "document_rung"), [(drive, "drive"), (metadata, "metadata")])


@MAKERS
def test_without_a_store_the_document_serves(two_nics, maker, document_rung):
    assert names(maker(TWO).network_config) == ["ens3", "ens4"]
    assert rung() == document_rung


@MAKERS
def test_a_link_that_has_no_nic_is_left_out(guest, maker, document_rung):
    guest.nic("ens4", B)
    assert names(maker(TWO).network_config) == ["ens4"]
    assert rung() == document_rung


def test_the_store_outranks_what_the_drive_says_since_its_creation(two_nics):
    newer = document([link(), link(B, "tap2")], [static("10.0.0.77"), static("10.1.0.77", link="tap2")])
    remember(newer)
    assert addresses(drive(TWO).network_config) == ["10.0.0.77", "10.1.0.77"]
    assert rung() == "store"


def test_an_edit_that_the_metadata_service_tells_at_boot_is_taken(two_nics):
    remember(TWO, source="metadata")
    edited = document([link(), link(B, "tap2")], [static("10.0.0.77"), static("10.1.0.5", link="tap2")])
    assert addresses(metadata(edited).network_config) == ["10.0.0.77", "10.1.0.5"]
    assert rung() == "store"


def test_what_cloud_init_took_from_its_cache_is_not_heard_again(two_nics):
    remember(TWO, source="metadata")
    stale = document([link()], [static("10.0.0.1")])
    assert addresses(metadata(stale, fresh=False).network_config) == ["10.0.0.5", "10.1.0.5"]


def test_a_nic_attached_since_is_configured_from_the_store_though_no_drive_lists_it(two_nics):
    remember(TWO)
    assert names(drive(document([link()], [static()])).network_config) == ["ens3", "ens4"]
    assert rung() == "store"


def test_a_store_of_another_instance_is_none(two_nics):
    remember(document([link()], [static("10.0.0.77")]), instance="another")
    assert addresses(drive(TWO).network_config) == ["10.0.0.5", "10.1.0.5"]
    assert rung() == "drive"


def test_a_damaged_store_is_none(two_nics):
    files.replace(paths.STORE, "{")
    assert names(drive(TWO).network_config) == ["ens3", "ens4"]
    assert rung() == "drive"


@pytest.mark.parametrize("bad", [{}, {"links": 7}, {"links": [], "networks": 7}, [], "x"], ids=repr)
def test_a_document_that_says_nothing_is_served_by_what_was_good_last(two_nics, bad):
    files.replace(paths.STATE + "/keep", "")  # the package's state directory is there
    good = drive(TWO).network_config
    assert drive(bad).network_config == good
    assert json.loads(files.read(paths.BOOT))["rungs"] == ["drive", "last-good"]


def test_what_was_good_on_another_instance_is_not(two_nics):
    files.replace(
        paths.STATE + "/last-good.json", json.dumps({"instance_id": "another", "config": {"version": 1, "config": []}})
    )
    ladder_rung = ladder.climb("drive", {}, True, UUID, lambda: "built in")
    assert ladder_rung[:2] == ("built in", "built-in")


@pytest.mark.parametrize(("comes", "rung", "asked"), [(1, "drive", 2), (9, "built-in", 4), (0, "built-in", 1)])
def test_a_rung_is_climbed_again_only_where_a_nic_came_or_went_meanwhile(tmp_path, monkeypatch, comes, rung, asked):
    monkeypatch.setattr(ladder, "_DEVICES", str(tmp_path))
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
    assert ladder.climb("drive", document, True, UUID, lambda: "built in")[1] == rung
    assert len(tries) == asked


@MAKERS
def test_no_document_is_the_built_in_classs_business(guest, maker, document_rung):
    for nothing in (None, sources.UNSET):
        assert not maker(nothing).network_config
    assert rung() is None


def test_one_bad_link_costs_no_other(two_nics):
    bad = dict(TWO, links=[dict(TWO["links"][0], mtu="x"), TWO["links"][1]])
    assert names(drive(bad).network_config) == ["ens4"]
    assert "links[0].mtu" in " ".join(files.read_json(paths.BOOT)["problems"])


def test_a_store_that_fails_to_convert_is_passed_over(two_nics, monkeypatch):
    remember(TWO)
    real = netconfig.whole
    calls = []

    def fails_once(wants, convert):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a bug")
        return real(wants, convert)

    monkeypatch.setattr(netconfig, "whole", fails_once)
    assert names(drive(TWO).network_config) == ["ens3", "ens4"]
    assert rung() == "drive"
    assert "a bug" in " ".join(files.read_json(paths.BOOT)["problems"])


def test_the_first_answer_of_a_boot_is_the_rung_that_is_told(two_nics):
    source = drive(TWO)
    assert source.network_config
    remember(TWO)
    assert source.network_config
    assert files.read_json(paths.BOOT)["rungs"] == ["drive", "store"]
    assert rung() == "drive"


def test_where_nothing_of_ours_works_the_drive_is_still_filtered(guest, monkeypatch):
    guest.nic("ens4", B)

    def broken(*_args):
        raise RuntimeError("half installed")

    monkeypatch.setattr(ladder, "climb", broken)
    assert names(drive(TWO).network_config) == ["ens4"]
    assert rung() == "bare-drive"


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


def test_the_macs_of_this_machine_are_told(two_nics):
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


# -- the pickle ---------------------------------------------------------------------------------------------------

PAIRS = [
    ("DataSourceConfigDrive", "DataSourceConfigDrive"),
    ("DataSourceOpenStack", "DataSourceOpenStack"),
    ("DataSourceOpenStack", "DataSourceOpenStackLocal"),
]
LOAD = getattr(sources, "pkl_load", None) or stages._pkl_load
STORE = getattr(sources, "pkl_store", None) or stages._pkl_store


def built_in(module, name):
    __import__("cloudinit.sources." + module)
    return getattr(sys.modules["cloudinit.sources." + module], name)


def raw(path):
    with open(path, "rb") as fh:
        return fh.read()


@pytest.fixture
def cached(tmp_path):
    """obj.pkl as cloud-init writes it, of a built-in class."""

    def cache(module, name, asked=False):
        obj = make(built_in(module, name), TWO, fresh=False)
        assert not asked or obj.network_config
        path = str(tmp_path / "obj.pkl")
        assert STORE(obj, path)
        return path

    return cache


def plain(obj):
    """What a datasource holds, less other objects and the network config, which is made anew at each boot."""
    held = {name: value for name, value in vars(obj).items() if name != "_network_config"}
    return {name: value for name, value in held.items() if isinstance(value, (str, int, list, dict, type(None)))}


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_adopted_and_released_the_cached_datasource_is_as_it_was(two_nics, cached, module, name):
    path = cached(module, name)
    before = plain(LOAD(path))
    assert "cloudinit_osnetd" in pickled.adopt(path)
    adopted = LOAD(path)
    assert (type(adopted).__module__, type(adopted).__name__) == ("cloudinit_osnetd.sources." + module, name)
    assert issubclass(type(adopted), built_in(module, name))
    assert names(adopted.network_config) == ["ens3", "ens4"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o400
    assert "cloudinit.sources" in pickled.release(path)
    released = LOAD(path)
    assert type(released) is built_in(module, name)
    assert plain(released) == before
    assert os.listdir(os.path.dirname(path)) == ["obj.pkl"]


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_adopting_and_releasing_twice_is_like_once(cached, module, name):
    path = cached(module, name)
    pickled.adopt(path)
    assert "left as it is" in pickled.adopt(path)
    pickled.release(path)
    assert "left as it is" in pickled.release(path)
    assert type(LOAD(path)) is built_in(module, name)


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_what_we_pickle_carries_no_name_into_another_boot(two_nics, cached, module, name):
    path = cached(module, name)
    pickled.adopt(path)
    source = LOAD(path)
    assert source.network_config
    assert STORE(source, path)
    assert LOAD(path)._network_config in (None, sources.UNSET)
    assert b"ens3" not in raw(path)


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_the_names_that_the_built_in_class_has_cached_go_with_its_adoption(two_nics, cached, module, name):
    path = cached(module, name, asked=True)
    assert b"ens3" in raw(path)
    pickled.adopt(path)
    assert b"ens3" not in raw(path)
    two_nics.drop("ens3")
    two_nics.nic("ens9", A)
    assert names(LOAD(path).network_config) == ["ens4", "ens9"]


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_released_it_loads_where_the_package_is_gone(cached, module, name, tmp_path):
    path = cached(module, name)
    pickled.adopt(path)
    pickled.release(path)
    script = "import pickle, sys; fh = open(sys.argv[1], 'rb'); print(type(pickle.load(fh)).__module__)"
    done = subprocess.run(
        [sys.executable, "-c", script, path], env={}, cwd=str(tmp_path), stdout=subprocess.PIPE, universal_newlines=True
    )
    assert done.stdout.strip() == "cloudinit.sources." + module


def test_a_failed_adoption_leaves_the_pickle_as_it_was(cached, monkeypatch):
    path = cached("DataSourceConfigDrive", "DataSourceConfigDrive")
    before = raw(path)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(pickled.PickleError, match="No space left"):
        pickled.adopt(path)
    assert raw(path) == before
    assert os.listdir(os.path.dirname(path)) == ["obj.pkl"]


# -- half installed ------------------------------------------------------------------------------------------------

FILES = sorted(
    os.path.relpath(os.path.join(directory, name), PACKAGE)
    for directory, _dirs, found in os.walk(PACKAGE)
    for name in found
    if name.endswith(".py")
)
HALF = """
import json, os, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from cloudinit import helpers, settings, sources, stages
init = stages.Init(ds_deps=[])
init.read_cfg()


def config_of(name, document):
    (cls,) = sources.list_sources([name], [sources.DEP_FILESYSTEM], ["cloudinit_osnetd.sources", "", "cloudinit.sources"])
    found = cls(settings.CFG_BUILTIN, init.distro, helpers.Paths({"run_dir": "/run/cloud-init", "cloud_dir": "/var/lib/cloud"}))
    found.metadata = {"instance-id": "i", "uuid": "i"}
    found.network_json = document
    names = sorted(item["name"] for item in found.network_config["config"] if item["type"] == "physical")
    return " ".join([cls.__module__.split(".")[0]] + names)


# A process for each missing file: what one has imported the next one must not find.
for gone in json.loads(sys.argv[2]):
    for name in ("ConfigDrive", "OpenStack"):
        sys.stdout.flush()
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        path = os.path.join(sys.argv[1], "cloudinit_osnetd", gone)
        os.rename(path, path + ".gone")
        try:
            said = config_of(name, json.loads(sys.argv[3]))
        except BaseException as error:
            said = repr(error)
        os.rename(path + ".gone", path)
        print(json.dumps([gone, name, said]), flush=True)
        os._exit(0)
"""


@pytest.fixture
def half_installed(tmp_path):
    """What both datasources of a package give from which one file is missing, for each of its files."""

    def ask(doc):
        shutil.copytree(PACKAGE, str(tmp_path / "cloudinit_osnetd"), ignore=shutil.ignore_patterns("__pycache__"))
        done = subprocess.run(
            [sys.executable, "-c", HALF, str(tmp_path), json.dumps(FILES), json.dumps(doc)],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            cwd=str(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
        found = {(gone, name): said for gone, name, said in map(json.loads, done.stdout.splitlines())}
        assert len(found) == 2 * len(FILES), done.stderr
        return found

    return ask


def test_whichever_file_is_missing_a_server_boots_with_its_network(two_nics, half_installed):
    for case, said in half_installed(TWO).items():
        assert said.split()[1:] == ["ens3", "ens4"], case


def test_whichever_file_is_missing_but_the_override_itself_a_listed_nic_that_is_gone_costs_nothing(
    guest, half_installed
):
    guest.nic("ens4", B)
    for (gone, name), said in half_installed(TWO).items():
        if name == "ConfigDrive" and gone != "sources/DataSourceConfigDrive.py":
            assert said == "cloudinit_osnetd ens4", gone


def test_a_pickle_of_ours_is_no_less_than_the_built_in_one(two_nics, cached):
    path = cached("DataSourceConfigDrive", "DataSourceConfigDrive")
    pickled.adopt(path)
    again = pickle.loads(pickle.dumps(LOAD(path)))
    assert again.get_instance_id() == UUID
    assert again.network_json == TWO
    assert isinstance(kernel.snapshot().by_mac(early=True), dict)
    assert desired.desired(truth.EMPTY, {}) == []
