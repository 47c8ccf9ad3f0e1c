# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The backends for the ifcfg files that cloud-init's renderer sysconfig writes: NetworkManager, or the network-scripts.

Which of the two reads them is a matter of the server: Enterprise Linux 8 has both.
"""

import glob
import os

from ..base import Backend
from ..network_scripts.activator import ScriptsActivator
from .activator import IfcfgActivator
from .format import ForNetworkManager, ForScripts

_UNIT = "NetworkManager.service"
_UNITS = "/etc/systemd/system"
_RUNS = "/run/NetworkManager"
# In lib64 on Enterprise Linux, below the architecture's name on Debian.
_PLUGINS = (
    "/usr/lib*/NetworkManager/*/libnm-settings-plugin-ifcfg-rh.so",
    "/usr/lib/*/NetworkManager/*/libnm-settings-plugin-ifcfg-rh.so",
)
_SCRIPTS = "/etc/sysconfig/network-scripts/network-functions"
_IFUP = ("/usr/sbin/ifup", "/sbin/ifup")


class Ifcfg(ForNetworkManager, IfcfgActivator, Backend):
    name = "ifcfg"

    def unfit(self) -> str:
        if _networkmanager_reads():
            return ""
        return "no program reads ifcfg files: NetworkManager is off or has no plugin for them, and there is no ifup"


class NetworkScripts(ForScripts, ScriptsActivator, Backend):
    name = "network-scripts"


def chosen() -> Backend:
    """Returns the backend of this server. NetworkManager is preferred: where it is on, ifup leaves its NICs to it."""
    if not _networkmanager_reads() and os.path.exists(_SCRIPTS) and any(map(os.path.exists, _IFUP)):
        return NetworkScripts()
    return Ifcfg()


def _networkmanager_reads() -> bool:
    """True if NetworkManager runs or is started at boot, and has the plugin."""
    masked = os.path.realpath(os.path.join(_UNITS, _UNIT)) == "/dev/null"
    starts = os.path.lexists(os.path.join(_UNITS, "multi-user.target.wants", _UNIT)) and not masked
    return (starts or os.path.isdir(_RUNS)) and any(map(glob.glob, _PLUGINS))
