# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""eligibility: on which servers the network is managed, and on which it is left alone."""

import os

import pytest

from cloudinit_osnetd.cloud_init import context, eligibility, instance
from cloudinit_osnetd.core import truth
from cloudinit_osnetd.state import store
from cloudinit_osnetd.system import files, paths

from .build import data, document, link, static


@pytest.fixture
def server(guest, monkeypatch):
    """A server on which we work; what a test changes makes it another."""
    files.replace(paths.INSTANCE_ID[0], "uuid\n")
    files.replace(paths.INSTANCES + "/uuid/datasource", "DataSourceConfigDrive: x\n")
    files.replace(paths.CLOUD_RAN, "{}\n")
    answer = context.Context("eni", "", context.Settings(), {})

    def change(**fields):
        monkeypatch.setattr(context, "load", lambda remember, booting: answer._replace(**fields))

    change()
    return change


def test_on_openstack_with_a_known_renderer_we_work(server):
    on = eligibility.run_context()
    assert (on.instance_id, on.backend.name) == ("uuid", "ifupdown")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"disabled_by": "disabled by the kernel command line"}, "disabled by the kernel command line"),
        ({"settings": context.Settings(enabled=False)}, "switched off"),
        ({"settings": context.Settings(invalid="osnetd.ignore: invalid: 4")}, "invalid: osnetd.ignore: invalid: 4"),
        ({"renderer": "freebsd"}, "renderer freebsd is not supported"),
        ({"renderer": ""}, "cloud-init has no renderer here"),
        # As on openSUSE with wicked, which neither NetworkManager nor the network-scripts stand for.
        ({"renderer": "sysconfig"}, "no program reads ifcfg files"),
    ],
)
def test_hands_off_where_the_configuration_says_so(server, fields, why):
    server(**fields)
    with pytest.raises(eligibility.NotManaged, match=why):
        eligibility.run_context()


@pytest.mark.parametrize("text", ["DataSourceEc2Local: x\n", "DataSourceNone\n", "DataSourceNoCloud: y\n", ""])
def test_hands_off_on_another_cloud(server, text):
    files.replace(paths.INSTANCES + "/uuid/datasource", text)
    with pytest.raises(eligibility.NotManaged, match="not OpenStack's"):
        eligibility.run_context()


@pytest.mark.parametrize("text", ["DataSourceNone\n", "DataSourceNoCloud: y\n", ""])
def test_on_another_cloud_what_was_pushed_is_followed_and_nobody_is_asked(server, text):
    files.replace(paths.INSTANCES + "/uuid/datasource", text)
    assert eligibility.run_context(push=True).asks_openstack is False
    pushed = truth.observe(truth.EMPTY, "push", data(document([link()], [static()])), 1.0)
    store.save(store.empty("uuid")._replace(truth=pushed))
    assert eligibility.run_context().asks_openstack is False
    store.save(store.empty("uuid")._replace(truth=truth.forget(pushed, "push")))
    with pytest.raises(eligibility.NotManaged, match="not OpenStack's"):
        eligibility.run_context()


def test_cloud_init_has_run_where_somebody_has_cleaned_up_after_it(server, tmp_path):
    files.remove(paths.CLOUD_RAN)
    os.symlink(str(tmp_path / "gone"), paths.CLOUD_RAN)
    assert eligibility.run_context().backend.name == "ifupdown"


def test_cloud_init_that_is_not_enabled_at_this_boot_is_not_waited_for(server):
    files.remove(paths.CLOUD_RAN)
    assert not instance.is_off()
    files.replace(paths.CLOUD_BEGAN, "")
    assert instance.is_off()
    with pytest.raises(eligibility.NotManaged, match="it found no datasource, or was switched off"):
        eligibility.run_context()
    files.replace(paths.CLOUD_ON, "")
    assert not instance.is_off()


def test_hands_off_where_cloud_init_has_no_instance(server):
    files.remove(paths.INSTANCE_ID[0])
    with pytest.raises(eligibility.NotManaged, match="no instance"):
        eligibility.run_context()


def test_hands_off_where_cloud_init_was_switched_off_a_moment_ago(server):
    files.replace(paths.CLOUD_DISABLED, "")
    with pytest.raises(eligibility.NotManaged, match=r"disabled by .*/cloud-init\.disabled"):
        eligibility.run_context()


def test_hands_off_where_cloud_init_has_not_run_at_this_boot(server):
    files.remove(paths.CLOUD_RAN)
    with pytest.raises(eligibility.NotManaged, match="not run at this boot"):
        eligibility.run_context()


# -- updates.network.when --------------------------------------------------------------------------------------

ALL = ("operator", "push", "boot", "added", "removed", "timer")


@pytest.mark.parametrize(
    ("when", "followed"),
    [
        (None, ALL),
        (["hotplug"], ALL),
        (["boot-new-instance", "hotplug"], ALL),
        (["boot"], ("operator", "push", "boot")),
        (["boot-new-instance", "boot"], ("operator", "push", "boot")),
        (["boot-new-instance"], ("operator", "push")),
        ([], ("operator", "push")),
        ("nonsense", ALL),
    ],
)
def test_what_is_followed_is_what_cloud_init_is_told_to_update_the_network_at(server, when, followed):
    server(updates={"network": {"when": when}} if when is not None else {})
    on = eligibility.run_context()

    def done(reason):
        try:
            eligibility.permit(on, [reason])
        except eligibility.NotManaged:
            return False
        return True

    assert tuple(reason for reason in ALL if done(reason)) == followed
    assert bool(eligibility.not_followed(on.context.updates)) == (followed != ALL)


def test_one_reason_that_counts_is_enough(server):
    server(updates={"network": {"when": ["boot"]}})
    eligibility.permit(eligibility.run_context(), ["added", "boot"])


def test_the_first_boot_of_an_instance_is_always_followed(server):
    server(updates={"network": {"when": []}})
    eligibility.permit(eligibility.run_context(), ["boot"], new_instance=True)


def test_hotplug_that_was_enabled_by_command_counts(server):
    server(updates={"network": {"when": ["boot"]}})
    files.replace(paths.HOTPLUG_ENABLED, '{"scopes": ["network"]}')
    eligibility.permit(eligibility.run_context(), ["added"])
