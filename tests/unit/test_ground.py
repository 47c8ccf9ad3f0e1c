# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ground: on which servers we work, and on which we keep our hands off."""

import pytest

from cloudinit_osnetd import context, files, ground, paths


@pytest.fixture
def server(guest, monkeypatch):
    """A server on which we work; what a test changes makes it another."""
    files.replace(paths.INSTANCE_ID[0], "uuid\n")
    files.replace(paths.DATASOURCE, "DataSourceConfigDrive: x\n")
    answer = context.Context("eni", "", context.Settings(), {})

    def change(**fields):
        monkeypatch.setattr(context, "load", lambda remember: answer._replace(**fields))

    change()
    return change


def test_on_openstack_with_a_known_renderer_we_work(server):
    on = ground.ground()
    assert (on.instance_id, on.backend.name) == ("uuid", "ifupdown")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"disabled_by": "disabled by the kernel command line"}, "disabled by the kernel command line"),
        ({"settings": context.Settings(enabled=False)}, "switched off"),
        ({"renderer": "sysconfig"}, "renderer sysconfig is not supported"),
    ],
)
def test_hands_off_where_the_configuration_says_so(server, fields, why):
    server(**fields)
    with pytest.raises(ground.HandsOff, match=why):
        ground.ground()


@pytest.mark.parametrize("text", ["DataSourceEc2Local: x\n", "DataSourceNone\n", "DataSourceNoCloud: y\n", ""])
def test_hands_off_on_another_cloud(server, text):
    files.replace(paths.DATASOURCE, text)
    with pytest.raises(ground.HandsOff, match="not OpenStack's"):
        ground.ground()


def test_hands_off_where_cloud_init_has_no_instance(server):
    files.remove(paths.INSTANCE_ID[0])
    with pytest.raises(ground.HandsOff, match="no instance"):
        ground.ground()
