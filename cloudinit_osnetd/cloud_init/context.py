# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Reads cloud-init's configuration and caches it, because importing cloud-init to read it costs 100 ms.

The answer is kept with a fingerprint of everything that it depends on: the configuration files, the
kernel command line, the user-data, cloud-init itself, the version of this package, and the installed
tools of the renderers.
"""

import glob
import json
import logging
import os
from importlib.machinery import PathFinder
from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Tuple

from .. import __version__
from ..core import digest, fields
from ..core.records import Renderer
from ..system import files, paths
from . import instance

LOG = logging.getLogger(__name__)

# The files that cloud-init's renderers check to find out whether they are available (their `available` functions).
_TOOLS = (
    "/usr/sbin/netplan",
    "/usr/sbin/ifup",
    "/sbin/ifup",
    "/usr/bin/nmcli",
    "/usr/sbin/NetworkManager",
    "/bin/systemctl",
    "/etc/network/interfaces",
    "/etc/sysconfig/network-scripts",
    "/etc/sysconfig/network-scripts/network-functions",
    "/etc/sysconfig/config",
    "/etc/NetworkManager/NetworkManager.conf",
    # `systemctl is-enabled NetworkManager`
    "/etc/systemd/system/multi-user.target.wants/NetworkManager.service",
    "/etc/systemd/system/NetworkManager.service",  # masked
)
_IFCFG_PLUGIN = "/usr/lib*/NetworkManager/*/libnm-settings-plugin-ifcfg-rh.so"
_LONGEST_SECONDS = 1e9  # thirty years; time functions do not accept infinity
_TRIES = 5
_ANSWER = (("renderer", str), ("renderer_config", dict), ("disabled_by", str), ("settings", dict), ("updates", dict))


class Settings(NamedTuple):
    """The `osnetd:` key of cloud.cfg.d."""

    enabled: bool = True
    ignore: FrozenSet[str] = frozenset()  # MACs and names
    metadata_nic: str = ""  # MAC of the only NIC through which the metadata service may be asked, empty: any
    debounce: float = 1.5  # seconds from a NIC's removal to its clean-up
    patience: float = 90.0  # seconds for which a run waits for a pending NIC
    look_until: float = 86400.0  # seconds for which a timer checks for it after that
    back_off: float = 900.0  # the longest time between two of the timer's checks, in seconds
    must_reach: FrozenSet[str] = frozenset()  # addresses, or address:port, that must stay reachable after a change
    rejected_for: float = 900.0  # seconds until what was rolled back is tried again; doubled each time
    drift: str = "report"  # or "correct": parts of ours that others changed are written again, once an hour each
    invalid: str = ""  # the error in `ignore` or `metadata_nic`, empty if there is none


class Context(NamedTuple):
    renderer: str
    disabled_by: str
    settings: Settings
    updates: Dict[str, Any]
    renderer_config: Mapping[str, Any] = {}
    bond_names: bool = False  # True if cloud-init names a bond after its link

    @property
    def renders_with(self) -> Renderer:
        return Renderer(self.renderer, self.renderer_config)


class _Fingerprint(NamedTuple):
    """The fingerprint of everything that an answer depends on."""

    fixed: str  # files of the administrator, of packages, and those written before this program runs
    instance: str
    user: str  # files that cloud-init rewrites in place at each boot


def inputs() -> Tuple[List[str], List[str]]:
    """Returns the files that an answer depends on by their content, and those that count by being there.

    Left out are those that cloud-init rewrites in place at each boot (instance.cloud_configs).
    """
    package = PathFinder.find_spec("cloudinit")
    origin = os.path.dirname(package.origin) if package and package.origin else ""
    # os-release: the sysconfig renderer is for some distributions only.
    read = ["/etc/cloud/cloud.cfg", "/run/cloud-init/cloud.cfg", "/etc/os-release", "/proc/cmdline"]
    read.append("/proc/1/cmdline")  # cloud-init reads this one in a container
    read += sorted(path for path in glob.glob("/etc/cloud/cloud.cfg.d/*.cfg") if os.path.isfile(path))
    # version.py has the packaged version, which every upgrade of cloud-init changes.
    read.append(os.path.join(origin, "version.py"))
    # An upgrade of this package may read more, or read it differently.
    read += [os.path.join(os.path.dirname(__file__), name) for name in ("context.py", "compat.py")]
    # The glob reads a few directories; without NetworkManager there is no plugin for it.
    plugins = sorted(glob.glob(_IFCFG_PLUGIN)) if os.path.exists("/usr/bin/nmcli") else []
    return read, [*_TOOLS, *plugins, paths.UPGRADED_NETWORK]


def _fingerprint() -> _Fingerprint:
    read, checked = inputs()
    installed = [path for path in checked if os.path.exists(path)]
    fixed = digest.of_value([__version__, [[path, _content(path)] for path in read], installed])
    user = digest.of_value([[path, _content(path)] for path in instance.cloud_configs()])
    return _Fingerprint(fixed, instance.instance_id(), user)


def _content(path: str) -> str:
    # The content, not the time: cloud-init rewrites some of these files at each boot.
    return digest.of_text(files.read(path) or "")


def parse_settings(raw: Dict[str, Any]) -> Settings:
    """Reads the `osnetd:` key. An invalid value is logged, and the setting keeps its default.

    `ignore` and `metadata_nic` are different: their defaults are what the operator did not want. An
    invalid value of theirs is noted in `invalid`, and the network is then not managed.
    """
    default = Settings()
    values: Dict[str, Any] = {}
    for name, value in raw.items():
        if value is None:
            continue  # the same as no value
        if (name == "enabled" and isinstance(value, bool)) or (name == "drift" and value in ("report", "correct")):
            values[name] = value
        elif name == "metadata_nic" and (value == "" or _mac(value)):
            values[name] = _mac(value)
        elif name == "ignore" and all(_mac(v) or _is_name(v) for v in _listed(value)):
            values[name] = frozenset(_mac(v) or v for v in _listed(value))
        elif name == "must_reach" and isinstance(value, list) and all(_is_target(v) for v in value):
            values[name] = frozenset(value)
        elif (
            name in ("debounce", "patience", "look_until", "back_off", "rejected_for")
            and isinstance(value, (int, float))
            and not isinstance(value, bool)
            and 0 <= value <= _LONGEST_SECONDS
        ):
            values[name] = float(value)
        else:
            LOG.warning("configuration: osnetd.%s: unknown or invalid: %.60r", name, value)
            if name in ("ignore", "metadata_nic"):
                values["invalid"] = "osnetd.%s: invalid: %.60r" % (name, value)
    return default._replace(**values)


def _listed(value: Any) -> List[Any]:
    return value if isinstance(value, list) else [value]


def _is_name(value: Any) -> bool:
    """True if the kernel accepts the value as the name of a device."""
    return isinstance(value, str) and 0 < len(value) < 16 and not any(c in "/,:" or c.isspace() for c in value)


def _mac(value: Any) -> str:
    """Returns a MAC in its normal form, or an empty string if the value is not a MAC.

    YAML 1.1 reads an unquoted MAC of decimal digits, such as 52:54:00:12:34:56, as a number to base 60.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 60**5 <= value < 100 * 60**5:
        octets = []
        for _ in range(5):
            value, octet = divmod(value, 60)
            octets.append(octet)
        value = ":".join("%02d" % octet for octet in [value, *reversed(octets)])
    try:
        return fields.mac_address(value, "")
    except fields.DataError:
        return ""


def _is_target(value: Any) -> bool:
    from ..kernel.probe import parse  # imported only if there is something to parse

    try:
        return isinstance(value, str) and bool(parse(value))
    except ValueError:
        return False


def load(remember: bool = True, booting: bool = False) -> Context:
    """Returns the context, from the cache if nothing that it depends on has changed.

    With `remember` False nothing is written, for `plan` and `status`. With `booting` cloud-init may be
    writing the instance's cloud-config, as it does at each boot: the cached answer for it is used, and
    the next run reads what has changed in it.
    """
    fingerprint = _fingerprint()
    cached = files.read_json(paths.CONTEXT)
    if not _is_valid(cached, fingerprint, booting):
        cached, fingerprint, complete = _read_cloud_init(fingerprint)
        if remember and complete:
            _store(dict(cached, fingerprint=list(fingerprint)))
    return Context(
        renderer=cached["renderer"],
        disabled_by=cached["disabled_by"],
        settings=parse_settings(cached["settings"]),
        updates=cached["updates"],
        renderer_config=cached["renderer_config"],
        bond_names=bool(cached.get("bond_names")),
    )


def _is_valid(cached: Any, fingerprint: _Fingerprint, booting: bool) -> bool:
    """True if the cached answer is complete and has this fingerprint, or (`booting`) all of it but the user's part."""
    if not isinstance(cached, dict) or any(not isinstance(cached.get(name), kind) for name, kind in _ANSWER):
        return False
    of = cached.get("fingerprint")
    return of == list(fingerprint) or (booting and isinstance(of, list) and of[:-1] == list(fingerprint[:-1]))


def _read_cloud_init(fingerprint: _Fingerprint) -> Tuple[Dict[str, Any], _Fingerprint, bool]:
    """Returns cloud-init's answer, its fingerprint, and False if it may come from half-written files.

    If a file was being written while it was read, the fingerprint has changed afterwards: importing
    cloud-init takes longer than writing the file.
    """
    from . import compat

    answer: Dict[str, Any] = {}
    for _again in range(_TRIES):
        answer = dict(compat.cloud()._asdict())
        now = _fingerprint()
        if now == fingerprint:
            return answer, fingerprint, True
        fingerprint = now
    LOG.warning("cloud-init's configuration changes while it is read")
    return answer, fingerprint, False


def _store(answer: Dict[str, Any]) -> None:
    try:
        text = json.dumps(answer, indent=1, sort_keys=True, default=str) + "\n"
        files.replace(paths.CONTEXT, text, mode=0o600, sync=False)
    except (OSError, TypeError) as exc:  # TypeError: YAML allows keys that JSON does not
        LOG.warning("context not cached: %s", exc)
