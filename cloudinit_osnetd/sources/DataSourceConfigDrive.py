# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""cloud-init's ConfigDrive datasource, made harmless: see ladder.py.

Only cloudinit is imported at the top, and the filter of absent links is in this very file: any
other file of the package may be missing, and the server still boots with its network.
"""

import glob
import logging
import os

from cloudinit import sources, util
from cloudinit.sources import DataSourceConfigDrive as builtin
from cloudinit.sources.helpers import openstack

LOG = logging.getLogger(__name__)


def present_links(document):
    """`document` less the links that have no NIC, and what leans on them.

    cloud-init's conversion fails whole on one such link. A bond goes only when it has no member
    left. The document itself is returned where nothing has to go.
    """
    macs = system_macs()
    links = document.get("links") or []
    physical = [link for link in links if link.get("type") not in ("bond", "vlan")]
    if any(_mac(link) not in macs for link in physical if _mac(link)):
        util.udevadm_settle()
        macs = system_macs()
    kept = [link["id"] for link in physical if not _mac(link) or _mac(link) in macs]
    for kind, field in (("bond", "bond_links"), ("vlan", "vlan_link")):
        for link in links:
            below = link.get(field)
            below = below if isinstance(below, list) else [below]
            if link.get("type") == kind and any(lower in kept for lower in below):
                kept.append(link["id"])
    if len(kept) == len(links):
        return document
    return dict(
        document,
        links=[
            dict(link, bond_links=[m for m in link["bond_links"] if m in kept]) if link.get("type") == "bond" else link
            for link in links
            if link["id"] in kept
        ],
        networks=[net for net in document.get("networks") or [] if net.get("link") in kept],
    )


def _mac(link):
    return (link.get("ethernet_mac_address") or "").lower()


def system_macs():
    """The MACs of the kernel's devices; duplicates, on which cloud-init's own list fails, are fine."""
    macs = set()
    for path in glob.glob("/sys/class/net/*/address"):
        try:
            with open(path) as fh:
                macs.add(fh.read().strip().lower())
        except OSError:
            continue
    return macs


class DataSourceConfigDrive(builtin.DataSourceConfigDrive):
    """The built-in class but for `network_config`, which never names a NIC that is not here."""

    def _get_data(self):
        self._osnetd_fresh = True
        return super()._get_data()

    def __getstate__(self):
        state = dict(self.__dict__)
        # Names are those of this moment; another boot must not rename to them.
        state["_network_config"] = None
        state.pop("_osnetd_fresh", None)
        return state

    @property
    def network_config(self):
        document = self.network_json
        if document is None or document == sources.UNSET:
            # The built-in class takes UNSET for a config once an update has cleared its cache.
            self._network_config = None
            return super().network_config
        if self.known_macs is not None:
            return super().network_config  # whoever sets it, cloud-init's tests say, knows the NICs
        try:
            from cloudinit_osnetd.sources import ladder

            ladder.never_rename(self.distro)
            config, rung, problems = ladder.climb(
                "drive",
                document,
                getattr(self, "_osnetd_fresh", False),
                self.get_instance_id(),
                self._filtered_built_in,
            )
            ladder.note_rung(rung, "drive", problems)
            return config
        except Exception as exc:  # noqa: BLE001 - half-installed, or broken: boot all the same
            LOG.warning("cloudinit-osnetd is incomplete, using the drive as it is: %r", exc)
            config = self._filtered_built_in()
            _note_bare()
            return config

    def _filtered_built_in(self):
        try:
            return openstack.convert_net_json(present_links(self.network_json), known_macs=None)
        except Exception as exc:  # noqa: BLE001 - the built-in class may know better
            LOG.warning("config drive's links not filtered: %r", exc)
            self._network_config = None
            return super().network_config


def _note_bare():
    try:
        os.makedirs("/run/cloudinit-osnetd", exist_ok=True)
        with open("/run/cloudinit-osnetd/boot.json", "w") as fh:
            fh.write('{"rung": "bare-drive", "source": "drive", "problems": []}\n')
    except OSError as exc:
        LOG.warning("rung not noted: %s", exc)


DataSourceConfigDriveNet = DataSourceConfigDrive  # the name in old pickles

datasources = [
    (DataSourceConfigDrive, (sources.DEP_FILESYSTEM,)),
]


def get_datasource_list(depends):
    return sources.list_from_depends(depends, datasources)


# What cloud-init's own modules, and its tests, expect to find in a module of this name.
read_config_drive = builtin.read_config_drive
find_candidate_devs = builtin.find_candidate_devs
