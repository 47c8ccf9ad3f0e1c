# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The datasource that cloud-init keeps pickled in obj.pkl, re-classed in place.

cloud-init restores that object at each boot as long as the instance is the same, so an override
that is installed later is never asked, and a removed one leaves a pickle that cannot be loaded.
The file is never deleted: it holds the instance's identity.
"""

import importlib
import os
import pickle
from typing import Any, Dict, List

from ..system import files

OBJ_PKL = "/var/lib/cloud/instance/obj.pkl"
_BUILT_IN, _OVERRIDE = "cloudinit.sources.", "cloudinit_osnetd.sources."
_MODULES = ("DataSourceConfigDrive", "DataSourceOpenStack")


class PickleError(Exception):
    """obj.pkl cannot be read or written; it is as it was."""


def _load(path: str) -> Any:
    try:
        with open(path, "rb") as fh:
            return pickle.load(fh)
    except FileNotFoundError:
        return None
    except Exception as exc:  # noqa: BLE001 - unpickling runs the classes' own code
        raise PickleError("%s cannot be read: %r" % (path, exc)) from exc


def _dump(obj: Any, path: str) -> None:
    """Replace the pickle whole: cloud-init's own writing in place may be seen half done."""
    temporary = files.temporary_of(path)
    try:
        data = pickle.dumps(obj)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400)
        with os.fdopen(fd, "wb") as fh:
            fh.write(data)
            fh.flush()
            os.fsync(fh.fileno())
        os.rename(temporary, path)
        files.sync_directory(os.path.dirname(path))
    except Exception as exc:  # noqa: BLE001 - see _load
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise PickleError("%s cannot be written: %r" % (path, exc)) from exc


def _become(obj: Any, here: str, there: str) -> str:
    """Make `obj` the class of the same name in `there`; says why not where it is none of `here`."""
    module, name = type(obj).__module__, type(obj).__name__
    if module not in [here + known for known in _MODULES]:
        return "the cached datasource is %s.%s: left as it is" % (module, name)
    target = there + module[len(here) :]
    try:
        obj.__class__ = getattr(importlib.import_module(target), name)
    except (ImportError, AttributeError) as exc:
        raise PickleError("%s.%s: %s" % (target, name, exc)) from exc
    return ""


def adopt(path: str = OBJ_PKL) -> str:
    """Make the cached datasource the override's; says what was done."""
    files.remove(files.temporary_of(path))
    obj = _load(path)
    if obj is None:
        return "no cached datasource"
    left = _become(obj, _BUILT_IN, _OVERRIDE)
    if left:
        return left
    _dump(obj, path)
    return "the cached datasource is now %s.%s" % (type(obj).__module__, type(obj).__name__)


def adopt_anew(path: str = OBJ_PKL) -> str:
    """`adopt`, where the built-in class is back; empty, and cheap, where it is not.

    So it is where cloud-init itself installed the package in its network stage, and wrote the pickle
    after that, and where the override could not be loaded at some boot.
    """
    try:
        with open(path, "rb") as fh:
            content = fh.read()
    except OSError:
        return ""
    here = any((_OVERRIDE + module).encode() in content for module in _MODULES)
    there = any((_BUILT_IN + module).encode() in content for module in _MODULES)
    return adopt(path) if there and not here else ""


def release(path: str = OBJ_PKL) -> str:
    """Make the cached datasource the built-in one again; says what was done, and what comes of it.

    It keeps the network config of this moment, as cloud-init does by itself at each boot: a config
    made anew from a drive that lists a NIC which is gone would cost cloud-init the boot.
    """
    files.remove(files.temporary_of(path))
    obj = _load(path)
    if obj is None:
        return "no cached datasource"
    problem = ""
    try:
        config = obj.osnetd_climb()[0] if hasattr(obj, "osnetd_climb") else None
    except Exception as exc:  # noqa: BLE001 - the ladder's last rung is cloud-init's own code
        config, problem = None, repr(exc)
    left = _become(obj, _OVERRIDE, _BUILT_IN)
    if left:
        return left
    if isinstance(config, dict):
        obj._network_config = config  # noqa: SLF001 - what the built-in class caches itself
    _dump(obj, path)
    said = ["the cached datasource is now %s.%s" % (type(obj).__module__, type(obj).__name__)]
    if problem:
        said.append("it keeps no network config: %s" % problem)
    return "\n".join(said + _warning(obj))


def _warning(obj: Any) -> List[str]:
    """What cloud-init alone will make of a config drive that lists a NIC which is gone."""
    document = getattr(obj, "network_json", None)
    if type(obj).__name__ != "DataSourceConfigDrive" or not isinstance(document, dict):
        return []
    absent = _absent(document)
    if not absent:
        return []
    return [
        "The config drive lists NICs that this server has no longer: %s." % ", ".join(absent),
        (
            "As long as cloud-init trusts its cache, it boots as before: by the instance's DMI system UUID or"
            " manual_cache_clean: true."
        ),
        (
            "Where it reads the drive anew it fails on them, and reports an error at every boot. The network comes up"
            " all the same, as it is configured now."
        ),
    ]


def _absent(document: Dict[str, Any]) -> List[str]:
    from ..sources import DataSourceConfigDrive as drive

    nics = drive.system_nics()
    listed = [link for link in document.get("links") or [] if isinstance(link, dict)]
    physical = [link for link in listed if link.get("type") not in ("bond", "vlan")]
    macs = [str(link.get("ethernet_mac_address") or "").lower() for link in physical]
    return sorted(mac for mac in macs if mac and mac not in nics)
