# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ground: on which servers we work, and on which we keep our hands off."""

import pytest

from cloudinit_osnetd.cloud_init import context, eligibility
from cloudinit_osnetd.system import files, paths


@pytest.fixture
def server(guest, monkeypatch):
    """A server on which we work; what a test changes makes it another."""
    files.replace(paths.INSTANCE_ID[0], "uuid\n")
    files.replace(paths.INSTANCES + "/uuid/datasource", "DataSourceConfigDrive: x\n")
    files.replace(paths.CLOUD_RAN, "{}\n")
    answer = context.Context("eni", "", context.Settings(), {})

    def change(**fields):
        monkeypatch.setattr(context, "load", lambda remember, moving: answer._replace(**fields))

    change()
    return change


def test_on_openstack_with_a_known_renderer_we_work(server):
    on = eligibility.ground()
    assert (on.instance_id, on.backend.name) == ("uuid", "ifupdown")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"disabled_by": "disabled by the kernel command line"}, "disabled by the kernel command line"),
        ({"settings": context.Settings(enabled=False)}, "switched off"),
        ({"settings": context.Settings(unusable="osnetd.ignore: not usable: 4")}, "made out: osnetd.ignore: not usable: 4"),
        ({"renderer": "sysconfig"}, "renderer sysconfig is not supported"),
    ],
)
def test_hands_off_where_the_configuration_says_so(server, fields, why):
    server(**fields)
    with pytest.raises(eligibility.HandsOff, match=why):
        eligibility.ground()


@pytest.mark.parametrize("text", ["DataSourceEc2Local: x\n", "DataSourceNone\n", "DataSourceNoCloud: y\n", ""])
def test_hands_off_on_another_cloud(server, text):
    files.replace(paths.INSTANCES + "/uuid/datasource", text)
    with pytest.raises(eligibility.HandsOff, match="not OpenStack's"):
        eligibility.ground()


def test_hands_off_where_cloud_init_has_no_instance(server):
    files.remove(paths.INSTANCE_ID[0])
    with pytest.raises(eligibility.HandsOff, match="no instance"):
        eligibility.ground()


def test_hands_off_where_cloud_init_was_switched_off_a_moment_ago(server):
    files.replace(paths.CLOUD_DISABLED, "")
    with pytest.raises(eligibility.HandsOff, match=r"disabled by .*/cloud-init\.disabled"):
        eligibility.ground()


def test_hands_off_where_cloud_init_has_not_run_at_this_boot(server):
    files.remove(paths.CLOUD_RAN)
    with pytest.raises(eligibility.HandsOff, match="not run at this boot"):
        eligibility.ground()


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
    on = eligibility.ground()

    def done(reason):
        try:
            eligibility.permit(on, [reason])
        except eligibility.HandsOff:
            return False
        return True

    assert tuple(reason for reason in ALL if done(reason)) == followed
    assert bool(eligibility.not_followed(on.context.updates)) == (followed != ALL)


def test_one_reason_that_counts_is_enough(server):
    server(updates={"network": {"when": ["boot"]}})
    eligibility.permit(eligibility.ground(), ["added", "boot"])


def test_the_first_boot_of_an_instance_is_always_followed(server):
    server(updates={"network": {"when": []}})
    eligibility.permit(eligibility.ground(), ["boot"], new_instance=True)


def test_hotplug_that_was_enabled_by_command_counts(server):
    server(updates={"network": {"when": ["boot"]}})
    files.replace(paths.HOTPLUG_ENABLED, '{"scopes": ["network"]}')
    eligibility.permit(eligibility.ground(), ["added"])
