# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What cloud-init's configuration says, remembered: importing cloud-init to ask costs 100 ms.

The answer is kept with a fingerprint of all it depends on: the configuration files, the kernel
command line, the user-data, cloud-init itself, our own version, and which renderers' tools are
installed.
"""

import glob
import importlib.util
import json
import logging
import os
from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Tuple

from .. import __version__
from ..core import digest, fields
from ..core.records import Renderer
from ..system import files, paths
from . import instance

LOG = logging.getLogger(__name__)

# What cloud-init's renderers look for to call themselves available (their `available` functions).
_TOOLS = (
    "/usr/sbin/netplan",
    "/usr/sbin/ifup",
    "/sbin/ifup",
    "/usr/bin/nmcli",
    "/usr/sbin/NetworkManager",
    "/bin/systemctl",
    "/etc/network/interfaces",
    "/etc/sysconfig/network-scripts",
)
_LONGEST_SECONDS = 1e9  # thirty years; endless is none of the numbers that time knows
_UPGRADED = "/var/lib/cloud/data/upgraded-network"
_TRIES = 5
_ANSWER = (("renderer", str), ("renderer_config", dict), ("disabled_by", str), ("settings", dict), ("updates", dict))


class Settings(NamedTuple):
    """The `osnetd:` key of cloud.cfg.d."""

    enabled: bool = True
    ignore: FrozenSet[str] = frozenset()  # MACs and names
    metadata_nic: str = ""  # MAC of the only NIC through which the metadata service may be asked
    debounce: float = 1.5  # seconds from a NIC's vanishing to its clean-up
    patience: float = 90.0  # seconds that a run looks for a pending NIC
    look_until: float = 86400.0  # seconds that a timer looks for it after that
    back_off: float = 900.0  # the longest time between two such looks, in seconds
    must_reach: FrozenSet[str] = frozenset()  # addresses, or address:port, that a change must not cut off
    rejected_for: float = 900.0  # seconds until what was rolled back is tried again; doubled each time
    unusable: str = ""  # what was said of whom to leave alone or whom to ask, and cannot be made out


class Context(NamedTuple):
    renderer: str
    disabled_by: str
    settings: Settings
    updates: Dict[str, Any]
    renderer_config: Mapping[str, Any] = {}
    bond_names: bool = False  # cloud-init calls a bond as its link is called

    @property
    def renders_with(self) -> Renderer:
        return Renderer(self.renderer, self.renderer_config)


class _Mark(NamedTuple):
    """The fingerprint of what an answer depends on."""

    fixed: str  # what is written by hand, by packages, or before anything of ours runs
    instance: str
    user: str  # what cloud-init writes at each boot, in place


def _fingerprint() -> _Mark:
    package = importlib.util.find_spec("cloudinit")
    origin = os.path.dirname(package.origin) if package and package.origin else ""
    read = ["/etc/cloud/cloud.cfg", "/run/cloud-init/cloud.cfg", "/proc/cmdline"]
    read.append("/proc/1/cmdline")  # what cloud-init takes for the kernel's in a container
    read += sorted(path for path in glob.glob("/etc/cloud/cloud.cfg.d/*.cfg") if os.path.isfile(path))
    # The packaged version stands in version.py; every upgrade changes it.
    read.append(os.path.join(origin, "version.py"))
    # An upgrade of ours may ask for more, or make something else of it.
    read += [os.path.join(os.path.dirname(__file__), name) for name in ("context.py", "compat.py")]
    there = [path for path in _TOOLS + (_UPGRADED,) if os.path.exists(path)]
    fixed = digest.of_value([__version__, [[path, _content(path)] for path in read], there])
    user = digest.of_value([[path, _content(path)] for path in instance.cloud_configs()])
    return _Mark(fixed, instance.instance_id(), user)


def _content(path: str) -> str:
    # Content, not times: cloud-init writes some of these anew at each boot.
    return digest.of_text(files.read(path) or "")


def parse_settings(raw: Dict[str, Any]) -> Settings:
    """Read the `osnetd:` key; a value of the wrong kind is named in the log and left at its default.

    Not so `ignore` and `metadata_nic`, whose defaults are the very thing that somebody did not
    want: they are `unusable`, and then nothing is done.
    """
    default = Settings()
    values: Dict[str, Any] = {}
    for name, value in raw.items():
        if value is None:
            continue  # nothing is said
        if name == "enabled" and isinstance(value, bool):
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
            LOG.warning("configuration: osnetd.%s: unknown, or not usable: %.60r", name, value)
            if name in ("ignore", "metadata_nic"):
                values["unusable"] = "osnetd.%s: not usable: %.60r" % (name, value)
    return default._replace(**values)


def _listed(value: Any) -> List[Any]:
    return value if isinstance(value, list) else [value]


def _is_name(value: Any) -> bool:
    """As the kernel takes it for a device."""
    return isinstance(value, str) and 0 < len(value) < 16 and not any(c in "/,:" or c.isspace() for c in value)


def _mac(value: Any) -> str:
    """A MAC as we write it, empty for what is none.

    Unquoted, one of decimal digits alone is a number to base 60 in YAML 1.1: 52:54:00:12:34:56.
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
    from ..kernel.probe import parse  # where there is something to parse

    try:
        return isinstance(value, str) and bool(parse(value))
    except ValueError:
        return False


def load(remember: bool = True, moving: bool = False) -> Context:
    """The context, from the remembered answer where nothing that it depends on has changed.

    `remember` False writes nothing: `plan` and `status` only look. `moving`: cloud-init may be at
    writing the instance's cloud-config, as it does at each boot. What was remembered of it counts
    then, and what has changed in it is taken up by the next run.
    """
    mark = _fingerprint()
    kept = files.read_json(paths.CONTEXT)
    if not _holds(kept, mark, moving):
        kept, mark, whole = _ask(mark)
        if remember and whole:
            _keep(dict(kept, fingerprint=list(mark)))
    return Context(
        renderer=kept["renderer"],
        disabled_by=kept["disabled_by"],
        settings=parse_settings(kept["settings"]),
        updates=kept["updates"],
        renderer_config=kept["renderer_config"],
        bond_names=bool(kept.get("bond_names")),
    )


def _holds(kept: Any, mark: _Mark, moving: bool) -> bool:
    """True for a remembered answer that is one to `mark`; whoever wrote it, it is taken as a whole or not at all."""
    if not isinstance(kept, dict) or any(not isinstance(kept.get(name), kind) for name, kind in _ANSWER):
        return False
    of = kept.get("fingerprint")
    return of == list(mark) or (moving and isinstance(of, list) and of[:-1] == list(mark[:-1]))


def _ask(mark: _Mark) -> Tuple[Dict[str, Any], _Mark, bool]:
    """cloud-init's answer, the mark that it is of, and False where it may be of something half written.

    What was read while it was written has another mark afterwards: to import cloud-init takes longer than to write.
    """
    from . import compat

    answer: Dict[str, Any] = {}
    for _again in range(_TRIES):
        answer = dict(compat.cloud()._asdict())
        now = _fingerprint()
        if now == mark:
            return answer, mark, True
        mark = now
    LOG.warning("cloud-init's configuration changes while it is read")
    return answer, mark, False


def _keep(answer: Dict[str, Any]) -> None:
    try:
        text = json.dumps(answer, indent=1, sort_keys=True, default=str) + "\n"
        files.replace(paths.CONTEXT, text, mode=0o600, sync=False)
    except (OSError, TypeError) as exc:  # TypeError: YAML has keys that JSON has not
        LOG.warning("context not remembered: %s", exc)
