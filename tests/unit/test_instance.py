# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""instance: whose server this is and by which datasource, also while cloud-init writes that down anew."""

import os
import threading
import time

import pytest

from cloudinit_osnetd.cloud_init import instance
from cloudinit_osnetd.system import files, paths

UUID, OTHER = "1b2c0000-0000-0000-0000-000000000001", "1b2c0000-0000-0000-0000-000000000002"


@pytest.mark.parametrize(
    ("run", "var", "found"),
    [(UUID + "\n", None, UUID), (None, UUID + "\n", UUID), (UUID, OTHER, UUID), ("\n", UUID, UUID), (None, None, "")],
)
def test_the_instance_id_is_the_one_of_this_boot_else_the_last(guest, run, var, found):
    for number, text in enumerate((run, var)):
        if text is not None:
            files.replace(paths.INSTANCE_ID[number], text)
    assert instance.instance_id() == found


@pytest.fixture
def place(guest):
    """The instance's directory, as cloud-init makes it; its link is not there."""
    files.replace(paths.INSTANCE_ID[0], UUID + "\n")
    os.makedirs(os.path.join(paths.INSTANCES, UUID))
    return os.path.join(paths.INSTANCES, UUID)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("DataSourceConfigDrive: DataSourceConfigDrive [net,ver=2][source=/dev/sr0]\n", "ConfigDrive"),
        ("DataSourceConfigDriveNet: x\n", "ConfigDrive"),
        ("DataSourceOpenStack: DataSourceOpenStack [net,ver=2]\n", "OpenStack"),
        ("DataSourceOpenStackLocal: DataSourceOpenStackLocal\n", "OpenStack"),
        ("DataSourceEc2Local: x\n", "Ec2Local"),
        ("DataSourceNone\n", "None"),
        ("", ""),
        (None, ""),
    ],
)
def test_the_datasource_in_force_is_told_by_its_class(place, text, name):
    if text is not None:
        files.replace(place + "/datasource", text)
    assert instance.datasource() == name


def test_where_there_is_no_instance_there_is_no_datasource_and_nothing_is_waited_for(guest, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _seconds: pytest.fail("waited"))
    assert (instance.directory(), instance.datasource(), instance.cloud_config()) == ("", "", "")
    files.replace(paths.INSTANCE_ID[0], UUID + "\n")
    assert instance.datasource() == "", "one that has not been noted is none"


def test_an_instance_id_with_slashes_has_a_directory_as_cloud_init_makes_it(guest):
    files.replace(paths.INSTANCE_ID[0], "iid/of/somebody\n")
    assert instance.directory() == os.path.join(paths.INSTANCES, "iid_of_somebody")


def test_a_file_that_is_being_written_is_read_whole(place):
    """As cloud-init does it at each boot: emptied, then written."""
    path, over = place + "/datasource", threading.Event()

    def write():
        while not over.is_set():
            with open(path, "w") as fh:
                time.sleep(0.001)
                fh.write("DataSourceConfigDrive: x\n")
            time.sleep(0.001)

    files.replace(path, "DataSourceConfigDrive: x\n")
    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert {instance.datasource() for _ in range(200)} == {"ConfigDrive"}
    finally:
        over.set()
        thread.join()


def test_one_that_stays_empty_delays_nobody(place):
    open(place + "/datasource", "w").close()
    began = time.monotonic()
    assert instance.datasource() == ""
    assert time.monotonic() - began < 1
