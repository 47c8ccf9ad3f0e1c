# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""cloud-init's ConfigDrive datasource, made harmless: see ladder.py.

Only cloudinit is imported at the top, and the filter of what cloud-init cannot digest is in this
very file: any other file of the package may be missing, and the server still boots with its network.
"""

import glob
import logging
import os
from typing import Any, Dict, List

from cloudinit import sources, util
from cloudinit.net import network_state
from cloudinit.sources import DataSourceConfigDrive as builtin

# What stands in for a module of cloud-init's offers what that one does.
from cloudinit.sources.DataSourceConfigDrive import *  # noqa: F401,F403
from cloudinit.sources.helpers import openstack

LOG = logging.getLogger(__name__)
_KINDS = ("bond", "vlan")  # the others are physical


# -- the bare filter ------------------------------------------------------------------------------


def system_nics() -> Dict[str, str]:
    """The kernel's NICs: name by MAC. What is stacked on another device is none.

    cloud-init's own list fails whole on two devices with one MAC, and knows an enslaved NIC by the
    MAC of its bond.
    """
    nics: Dict[str, str] = {}
    for path in sorted(glob.glob("/sys/class/net/*")):
        if glob.glob(path + "/lower_*"):
            continue
        mac = _content(path + "/bonding_slave/perm_hwaddr") or _content(path + "/address")
        if len(mac) == 59:  # InfiniBand's twenty octets: OpenStack knows the port by six of them
            nics.setdefault(mac[36:45].lower() + mac[51:].lower(), os.path.basename(path))
        if mac:
            nics.setdefault(mac.lower(), os.path.basename(path))
    return nics


def _content(path: str) -> str:
    try:
        with open(path) as fh:
            return fh.read().strip()
    except OSError:
        return ""


def _mac(link: Dict[str, Any]) -> str:
    mac = link.get("ethernet_mac_address")
    return mac.lower() if isinstance(mac, str) else ""


def _without(document: Dict[str, Any], links: List[Dict[str, Any]]) -> Dict[str, Any]:
    """`document` with these of its links alone, and the networks that lie on them."""
    kept = [link["id"] for link in links]
    links = [
        dict(link, bond_links=[m for m in link.get("bond_links") or [] if m in kept])
        if link.get("type") == "bond"
        else link
        for link in links
    ]
    networks = [net for net in document.get("networks") or [] if isinstance(net, dict) and net.get("link") in kept]
    return dict(document, links=links, networks=networks)


def present_links(document: Dict[str, Any]) -> Dict[str, Any]:
    """`document` less the links that have no NIC, and what leans on them.

    cloud-init's conversion fails whole on one such link. A bond goes only when it has no member
    left. The document itself is returned where nothing has to go.
    """
    macs = system_nics()
    links = document.get("links") or []
    sound = [link for link in links if isinstance(link, dict) and isinstance(link.get("id"), (str, int))]
    physical = [link for link in sound if link.get("type") not in _KINDS]
    if any(_mac(link) not in macs for link in physical if _mac(link)):
        util.udevadm_settle()
        macs = system_nics()
    kept = [link["id"] for link in physical if not _mac(link) or _mac(link) in macs]
    for kind, field in (("bond", "bond_links"), ("vlan", "vlan_link")):
        for link in sound:
            below = link.get(field)
            below = below if isinstance(below, list) else [below]
            if link.get("type") == kind and any(lower in kept for lower in below):
                kept.append(link["id"])
    if len(kept) == len(links):
        return document
    return _without(document, [link for link in sound if link["id"] in kept])


def convert(document: Dict[str, Any]) -> Any:
    """cloud-init's conversion of the links that have a NIC; one that it cannot digest costs that one alone."""
    present = present_links(document)
    macs = system_nics()
    try:
        return _digested(present, macs)
    except Exception as exc:  # noqa: BLE001 - cloud-init's own code; whatever it raises
        LOG.warning("network_data: cloud-init cannot digest it whole: %r", exc)
    good: List[Dict[str, Any]] = []
    sound = [
        link for link in present.get("links") or [] if isinstance(link, dict) and isinstance(link.get("id"), (str, int))
    ]
    for link in sorted(sound, key=lambda link: (_KINDS.index(link["type"]) + 1) if link.get("type") in _KINDS else 0):
        try:
            _digested(_without(present, good + [link]), macs)
            good.append(link)
        except Exception as exc:  # noqa: BLE001 - see above
            LOG.warning("network_data: link %.60r left out: %r", link["id"], exc)
    return openstack.convert_net_json(_without(present, [link for link in sound if link in good]), known_macs=macs)


def _digested(document: Dict[str, Any], macs: Dict[str, str]) -> Any:
    config = openstack.convert_net_json(document, known_macs=macs)
    network_state.parse_net_config_data(config, skip_broken=False)
    return config


# -- the datasource -------------------------------------------------------------------------------


class DataSourceConfigDrive(builtin.DataSourceConfigDrive):
    """The built-in class but for `network_config`, which never names a NIC that is not here, and
    for updates at a boot or a hotplug, which read network_data anew and nothing else."""

    _network_config: Any

    # cloud-init's hook (24.1 and later, off by default): not for each veth of a container.
    extra_hotplug_udev_rules = 'ENV{OSNETD_MANAGE}!="1", DEVPATH=="/devices/virtual/*", GOTO="cloudinit_end"\n'

    def _get_data(self):
        self.osnetd_fresh = True
        return super()._get_data()

    def __getstate__(self):
        state = super().__getstate__() if hasattr(super(), "__getstate__") else self.__dict__
        state = {key: value for key, value in state.items() if not key.startswith("osnetd_")}
        # Names are those of this moment; another boot must not rename to them.
        state["_network_config"] = None
        return state

    def update_metadata_if_supported(self, source_event_types):  # 21.3
        if _is_first(source_event_types):
            return super().update_metadata_if_supported(source_event_types)
        return self._osnetd_update(source_event_types)

    def update_metadata(self, source_event_types):  # 18.4 to 21.2
        if _is_first(source_event_types):
            return super().update_metadata(source_event_types)
        return self._osnetd_update(source_event_types)

    def _osnetd_update(self, events):
        try:
            from cloudinit_osnetd.sources import update

            return update.network_data(self, events)
        except Exception as exc:  # noqa: BLE001 - half-installed, or broken: as it was
            LOG.warning("network_data not read anew: %r", exc)
            return False

    def osnetd_climb(self):
        """(network config, rung, problems): see ladder.climb."""
        from cloudinit_osnetd.sources import ladder

        ladder.never_rename(self.distro)
        fresh, heard = getattr(self, "osnetd_fresh", False), getattr(self, "osnetd_heard", None)
        return ladder.climb("drive", self.network_json, fresh, self.get_instance_id(), self._osnetd_bare, heard)

    @property
    def network_config(self):
        document = self.network_json
        if self._network_config == sources.UNSET:
            # An update clears it with that; the built-in class would take it for a config.
            self._network_config = None
        if document is None or document == sources.UNSET:
            return super().network_config
        if self.known_macs is not None:
            return super().network_config  # whoever sets it, cloud-init's tests say, knows the NICs
        try:
            config, rung, problems = self.osnetd_climb()
            from cloudinit_osnetd.sources import ladder

            ladder.note_rung(rung, "drive", problems, config)
            return config
        except Exception as exc:  # noqa: BLE001 - half-installed, or broken: boot all the same
            LOG.warning("cloudinit-osnetd is incomplete, using the drive as it is: %r", exc)
            config = self._osnetd_bare()
            _note_bare()
            return config

    def _osnetd_bare(self):
        try:
            return convert(self.network_json)
        except Exception as exc:  # noqa: BLE001 - the built-in class may know better
            LOG.warning("config drive's links not filtered: %r", exc)
            self._network_config = None
            return super().network_config


def _is_first(events):
    """True at the first boot of an instance: the one event at which everything is read."""
    from cloudinit.event import EventType

    return EventType.BOOT_NEW_INSTANCE in events


def _note_bare():
    try:
        os.makedirs("/run/cloudinit-osnetd/boot", exist_ok=True)
        with open("/run/cloudinit-osnetd/boot/rung.json", "w") as fh:
            fh.write('{"rung": "bare-drive", "source": "drive", "problems": []}\n')
    except OSError as exc:
        LOG.warning("rung not noted: %s", exc)


DataSourceConfigDriveNet = DataSourceConfigDrive  # the name in old pickles

datasources = [
    (DataSourceConfigDrive, (sources.DEP_FILESYSTEM,)),
]


def get_datasource_list(depends):
    return sources.list_from_depends(depends, datasources)
