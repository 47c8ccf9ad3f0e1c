# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The datasource that cloud-init has cached: adopted, released, and no worse for it."""

import os
import pickle
import stat
import subprocess
import sys

import pytest
from cloudinit import sources, stages

from cloudinit_osnetd.cloud_init import datasource_cache
from tests.unit.build import A

from .datasources import TWO, UUID, make, names

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
    assert "cloudinit_osnetd" in datasource_cache.adopt(path)
    adopted = LOAD(path)
    assert (type(adopted).__module__, type(adopted).__name__) == ("cloudinit_osnetd.sources." + module, name)
    assert issubclass(type(adopted), built_in(module, name))
    assert names(adopted.network_config) == ["ens3", "ens4"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o400
    assert "cloudinit.sources" in datasource_cache.release(path)
    released = LOAD(path)
    assert type(released) is built_in(module, name)
    assert plain(released) == before
    assert os.listdir(os.path.dirname(path)) == ["obj.pkl"]


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_adopting_and_releasing_twice_is_like_once(cached, module, name):
    path = cached(module, name)
    datasource_cache.adopt(path)
    assert "left as it is" in datasource_cache.adopt(path)
    datasource_cache.release(path)
    assert "left as it is" in datasource_cache.release(path)
    assert type(LOAD(path)) is built_in(module, name)


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_what_we_pickle_carries_no_name_into_another_boot(two_nics, cached, module, name):
    path = cached(module, name)
    datasource_cache.adopt(path)
    source = LOAD(path)
    assert source.network_config
    assert STORE(source, path)
    assert LOAD(path)._network_config in (None, sources.UNSET)
    assert b"ens3" not in raw(path)


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_the_names_that_the_built_in_class_has_cached_go_with_its_adoption(two_nics, cached, module, name):
    path = cached(module, name, asked=True)
    assert b"ens3" in raw(path)
    datasource_cache.adopt(path)
    assert b"ens3" not in raw(path)
    two_nics.drop("ens3")
    two_nics.nic("ens9", A)
    assert names(LOAD(path).network_config) == ["ens4", "ens9"]


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_released_it_loads_where_the_package_is_gone(cached, module, name, tmp_path):
    path = cached(module, name)
    datasource_cache.adopt(path)
    datasource_cache.release(path)
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
    with pytest.raises(datasource_cache.PickleError, match="No space left"):
        datasource_cache.adopt(path)
    assert raw(path) == before
    assert os.listdir(os.path.dirname(path)) == ["obj.pkl"]


def test_a_pickle_of_ours_is_no_less_than_the_built_in_one(two_nics, cached):
    path = cached("DataSourceConfigDrive", "DataSourceConfigDrive")
    datasource_cache.adopt(path)
    again = pickle.loads(pickle.dumps(LOAD(path)))
    assert again.get_instance_id() == UUID
    assert again.network_json == TWO
