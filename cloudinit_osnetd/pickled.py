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
from typing import Any

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
    temporary = "%s.osnetd-%d" % (path, os.getpid())
    try:
        data = pickle.dumps(obj)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400)
        with os.fdopen(fd, "wb") as fh:
            fh.write(data)
            fh.flush()
            os.fsync(fh.fileno())
        os.rename(temporary, path)
    except Exception as exc:  # noqa: BLE001 - see _load
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise PickleError("%s cannot be written: %r" % (path, exc)) from exc


def _reclass(path: str, here: str, there: str) -> str:
    obj = _load(path)
    if obj is None:
        return "no cached datasource"
    module, name = type(obj).__module__, type(obj).__name__
    if module not in [here + known for known in _MODULES]:
        return "the cached datasource is %s.%s: left as it is" % (module, name)
    target = there + module[len(here) :]
    try:
        obj.__class__ = getattr(importlib.import_module(target), name)
    except (ImportError, AttributeError) as exc:
        raise PickleError("%s.%s: %s" % (target, name, exc)) from exc
    _dump(obj, path)
    return "the cached datasource is now %s.%s" % (target, name)


def adopt(path: str = OBJ_PKL) -> str:
    """Make the cached datasource the override's; says what was done."""
    return _reclass(path, _BUILT_IN, _OVERRIDE)


def release(path: str = OBJ_PKL) -> str:
    """Make the cached datasource the built-in one again; says what was done."""
    return _reclass(path, _OVERRIDE, _BUILT_IN)
