# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Datasources as cloud-init makes them, with a document in hand."""

from cloudinit import helpers, settings, stages

from tests.unit.build import B, dns, document, link, static

UUID = "1b2c0000-0000-0000-0000-00000000000a"
TWO = document([link(mtu=1450), link(B, "tap2")], [static(), static("10.1.0.5", link="tap2")], dns("10.9.9.9"))


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


def names(config):
    return sorted(item["name"] for item in config["config"] if item["type"] not in ("nameserver", "loopback"))
