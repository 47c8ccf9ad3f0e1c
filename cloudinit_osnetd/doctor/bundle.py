# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`doctor --bundle`: a tar archive with what a bug report needs, without user-data, keys and passwords.

Each file is read by the rules for its kind (redact.py). What is not listed here is not read.
"""

import glob
import io
import json
import os
import platform
import sys
import tarfile
import time
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Sequence, Tuple

from .. import __version__
from ..cloud_init import instance
from ..run import status
from ..system import files, paths
from ..system.command import CommandError, run
from . import redact
from .result import Result

_MOST_BYTES = 1 << 20  # of one file: of logs the end
_LOGS = ("cloudinit-osnetd", "cloudinit-osnetd-early", "cloudinit-osnetd-look", "systemd-networkd", "networking")
_COMMANDS = (
    "ip -details address", "ip -4 route show table all", "ip -6 route show table all", "ip rule", "ip -6 rule",
    "networkctl list", "resolvectl status", "ifquery --state", "nmcli --fields all device",
    "systemctl list-units --all --no-pager cloudinit-osnetd*", "systemctl list-timers --all --no-pager",
    "systemctl list-units --no-pager cloud-*", "cloud-init --version", "cloud-init status --long",
    "uname -a", "ls -lR /run/cloudinit-osnetd /var/lib/cloudinit-osnetd /etc/cloud/cloud.cfg.d",
    "ls -l /etc/udev/rules.d /etc/systemd/network /etc/netplan /etc/network /etc/network/interfaces.d",
)  # fmt: skip
_NETWORK = (
    "/etc/network/interfaces", "/etc/network/interfaces.d/*", "/etc/netplan/*.yaml", "/run/netplan/*.yaml",
    "/etc/systemd/network/*", "/etc/systemd/network/*/*", "/run/systemd/network/*", "/run/systemd/network/*/*",
    "/etc/NetworkManager/system-connections/*", "/etc/sysconfig/network-scripts/ifcfg-*",
    "/etc/sysconfig/network-scripts/route*-*", "/etc/resolv.conf",
    "/run/network/interfaces.d/*", "/etc/udev/rules.d/*net*",
)  # fmt: skip
_SENSITIVE = "/run/cloud-init/instance-data-sensitive.json"
_CMDLINE = ("ip=", "net.", "biosdevname", "cloud-init=", "systemd.", "init=", "ro", "quiet")


def write(path: str, results: Sequence[Result]) -> None:
    """Writes the archive, readable for root only. Raises OSError if that fails."""
    clean = redact.everywhere(secrets())
    temporary = files.temporary_of(path)
    files.remove(temporary)
    # A file of its own: in /tmp somebody else may have made one of this name, or a link, which would be followed.
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as fh, tarfile.open(fileobj=fh, mode="w:gz") as archive:
            for name, text in contents(results):
                data = clean(text).encode("utf-8", "replace")
                member = tarfile.TarInfo("cloudinit-osnetd-bundle/" + name.lstrip("/"))
                member.size, member.mtime, member.mode = len(data), int(time.time()), 0o600
                archive.addfile(member, io.BytesIO(data))
        os.rename(temporary, path)
    except BaseException:
        files.remove(temporary)
        raise


def contents(results: Sequence[Result]) -> Iterator[Tuple[str, str]]:
    """Yields name and text of each file of the archive. What cannot be read is named with the error."""
    yield "about.txt", _about()
    yield "doctor.json", json.dumps([dict(one._asdict()) for one in results], indent=1) + "\n"
    yield "status.json", redact.record(json.dumps(status.read()))
    for path in (paths.STORE, paths.INTENT, paths.STATUS, paths.BOOT, paths.EARLY, paths.WAITING, paths.FINDINGS):
        yield from _file(path, redact.record)
    yield "history.json", redact.record(json.dumps([_json(line) for line in _read(paths.HISTORY).splitlines()]))
    for path in [paths.CLOUD_CFG, *sorted(glob.glob(os.path.join(paths.DROP_INS, "*.cfg")))]:
        yield from _file(path, redact.cloud_config)
    for path in sorted({path for pattern in _NETWORK for path in glob.glob(pattern)}):
        yield from _file(path, redact.lines)
    yield from _file("/var/log/cloud-init.log", _cloud_init_log)
    for unit in _LOGS:
        out = _command(["journalctl", "-b", "--no-pager", "-o", "short-iso", "-n", "2000", "-u", unit])
        yield "journal/%s.txt" % unit, redact.log(out)
    for line in _COMMANDS:
        yield "commands/%s.txt" % line.replace("/", "_"), redact.log(_command(line.split()))


def secrets() -> FrozenSet[str]:
    """Returns what must not be in a bundle, as far as this server knows it: looked for in every file of it."""
    found: List[str] = []
    # All of the directory of the instance: user-data, vendor-data and their parts, under the names of any version.
    for path in glob.glob(os.path.join(instance.directory() or "/nonexistent", "*-data*")):
        found += redact.pieces(_read(path))
    sensitive = _json(_read(_SENSITIVE))
    for name in ("user_data", "vendor_data", "vendor_data2", "random_seed", "public_ssh_keys", "admin_pass"):
        found += redact.secrets_in(_find(sensitive, name), told=True)
    found += redact.secrets_in(sensitive)
    for path in glob.glob("/etc/ssh/ssh_host_*"):
        found += [word for line in _read(path).splitlines() for word in line.split() if len(word) > 30]
    found += [line.split(":")[1] for line in _read("/etc/shadow").splitlines() if line.count(":") > 1]
    return frozenset(one for one in found if not _is_ordinary(one))


def _is_ordinary(word: str) -> bool:
    """True for a line of user-data that says nothing, and for words that logs are full of."""
    return word.lower() in ("#cloud-config", "cloudinit-osnetd", "network_data", "cloud-init", "systemd") or not word


def _find(value: Any, name: str) -> List[Any]:
    """Returns all values under a key of this name, at any depth."""
    if isinstance(value, dict):
        inside = [one for key, inner in value.items() if key != name for one in _find(inner, name)]
        return inside + ([value[name]] if name in value else [])
    return [one for inner in value for one in _find(inner, name)] if isinstance(value, list) else []


def _about() -> str:
    release = [line for line in _read("/etc/os-release").splitlines() if line.startswith(("PRETTY_NAME", "VERSION"))]
    words = [word for word in _read("/proc/cmdline").split() if word.startswith(_CMDLINE)]
    about: Dict[str, str] = {
        "cloudinit-osnetd": __version__,
        "python": sys.version.replace("\n", " "),
        "kernel": platform.release(),
        "system": "; ".join(release),
        "kernel command line, in part": " ".join(words),
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
    return "".join("%s: %s\n" % item for item in about.items())


def _cloud_init_log(text: str) -> str:
    """Returns what cloud-init's log says of the network, and its warnings."""
    words = ("WARNING", "ERROR", "osnetd", "network config", "datasource", "rename", "stages.py")
    return redact.log("".join(line + "\n" for line in text.splitlines() if any(word in line for word in words)))


def _file(path: str, rule: Callable[[str], str]) -> Iterator[Tuple[str, str]]:
    if os.path.isfile(path):
        yield "files" + path, rule(_read(path))


def _read(path: str) -> str:
    """Returns a text; empty if it cannot be read. Of a large file the end."""
    try:
        with open(path, "rb") as fh:
            fh.seek(max(0, os.fstat(fh.fileno()).st_size - _MOST_BYTES))
            return fh.read(_MOST_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _command(argv: List[str]) -> str:
    try:
        return run(argv, timeout=20.0)
    except CommandError as exc:
        return "%s\n" % exc
