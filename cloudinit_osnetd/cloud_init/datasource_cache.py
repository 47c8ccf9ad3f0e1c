# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Changes the class of the datasource that cloud-init keeps pickled in obj.pkl.

cloud-init restores that object at each boot as long as the instance is the same. So an override that
is installed later would never be used, and a removed one would leave a pickle that cannot be loaded.
The file is never deleted: it holds the instance's identity.
"""

import importlib
import os
import pickle
from typing import Any, Dict, List

from ..system import files, paths

_BUILT_IN, _OVERRIDE = "cloudinit.sources.", "cloudinit_osnetd.sources."
_MODULES = ("DataSourceConfigDrive", "DataSourceOpenStack")


class PickleError(Exception):
    """obj.pkl cannot be read or written; it is unchanged."""


def _load(path: str) -> Any:
    try:
        with open(path, "rb") as fh:
            return pickle.load(fh)
    except FileNotFoundError:
        return None
    except Exception as exc:  # noqa: BLE001 - unpickling runs the classes' own code
        raise PickleError("%s cannot be read: %r" % (path, exc)) from exc


def _dump(obj: Any, path: str) -> None:
    """Replaces the pickle atomically; cloud-init itself writes it in place, where a reader may see half of it."""
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


def _change_class(obj: Any, old: str, new: str) -> str:
    """Gives `obj` the class of the same name in the package `new`; returns the reason if it is not one of `old`."""
    module, name = type(obj).__module__, type(obj).__name__
    if module not in [old + known for known in _MODULES]:
        return "the cached datasource is %s.%s: left as it is" % (module, name)
    target = new + module[len(old) :]
    try:
        obj.__class__ = getattr(importlib.import_module(target), name)
    except (ImportError, AttributeError) as exc:
        raise PickleError("%s.%s: %s" % (target, name, exc)) from exc
    return ""


def adopt(path: str = paths.DATASOURCE_CACHE) -> str:
    """Changes the cached datasource to the override's class; returns a message for the operator."""
    files.remove(files.temporary_of(path))
    obj = _load(path)
    if obj is None:
        return "no cached datasource"
    refused = _change_class(obj, _BUILT_IN, _OVERRIDE)
    if refused:
        return refused
    _dump(obj, path)
    return "the cached datasource is now %s.%s" % (type(obj).__module__, type(obj).__name__)


def adopt_again(path: str = paths.DATASOURCE_CACHE) -> str:
    """Calls `adopt` if the pickle has the built-in class again; otherwise returns an empty string, without unpickling.

    That happens if cloud-init itself installed the package in its network stage and wrote the pickle
    after that, and if the override could not be loaded at some boot.
    """
    try:
        with open(path, "rb") as fh:
            content = fh.read()
    except OSError:
        return ""
    overridden = any((_OVERRIDE + module).encode() in content for module in _MODULES)
    built_in = any((_BUILT_IN + module).encode() in content for module in _MODULES)
    return adopt(path) if built_in and not overridden else ""


def release(path: str = paths.DATASOURCE_CACHE) -> str:
    """Changes the cached datasource back to the built-in class; returns a message with the consequences.

    The object keeps the current network config, as cloud-init itself keeps it at each boot: generating
    one from a drive that lists a removed NIC would fail at the next boot.
    """
    files.remove(files.temporary_of(path))
    obj = _load(path)
    if obj is None:
        return "no cached datasource"
    problem = ""
    try:
        config = obj.osnetd_network_config()[0] if hasattr(obj, "osnetd_network_config") else None
    except Exception as exc:  # noqa: BLE001 - the last fallback level is cloud-init's own code
        config, problem = None, repr(exc)
    refused = _change_class(obj, _OVERRIDE, _BUILT_IN)
    if refused:
        return refused
    if isinstance(config, dict):
        obj._network_config = config  # noqa: SLF001 - what the built-in class caches itself
    _dump(obj, path)
    messages = ["the cached datasource is now %s.%s" % (type(obj).__module__, type(obj).__name__)]
    if problem:
        messages.append("it keeps no network config: %s" % problem)
    return "\n".join(messages + _warning(obj))


def _warning(obj: Any) -> List[str]:
    """Returns what cloud-init alone will do with a config drive that lists a removed NIC."""
    document = getattr(obj, "network_json", None)
    if type(obj).__name__ != "DataSourceConfigDrive" or not isinstance(document, dict):
        return []
    absent = _absent(document)
    if not absent:
        return []
    return [
        "The config drive lists NICs that this server no longer has: %s." % ", ".join(absent),
        (
            "While cloud-init trusts its cache (by the instance's DMI system UUID or manual_cache_clean: true),"
            " the server boots as before."
        ),
        (
            "If cloud-init reads the drive again, it fails on these NICs and reports an error at every boot. The"
            " network still comes up as it is configured now."
        ),
    ]


def _absent(document: Dict[str, Any]) -> List[str]:
    from ..sources import DataSourceConfigDrive as drive

    nics = drive.system_nics()
    listed = [link for link in document.get("links") or [] if isinstance(link, dict)]
    physical = [link for link in listed if link.get("type") not in ("bond", "vlan")]
    macs = [str(link.get("ethernet_mac_address") or "").lower() for link in physical]
    return sorted(mac for mac in macs if mac and mac not in nics)
