# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Checks of cloud-init: its configuration, the datasource class of this boot, and caches of other instances."""

import glob
import importlib.util
import os
from typing import Any, Dict, List, Optional

from ..cloud_init import instance
from ..cloud_init.eligibility import NotManaged, not_followed, run_context
from ..system import files, paths
from .result import Result, failed, ok, skipped, warning

_OURS = "cloudinit_osnetd.sources"
_KEY = "datasource_pkg_list"
_SIGNATURES = (b"cloudinit_osnetd.sources.DataSource", b"cloudinit_osnetd.sources\n")


def managed() -> List[Result]:
    """Whether this server's network is managed at all."""
    try:
        on = run_context(remember=False)
    except NotManaged as exc:
        return [warning("managed", "nothing is done here: %s" % exc, "change that, if it is not meant so")]
    limited = not_followed(on.context.updates)
    if limited:
        return [warning("managed", limited, "add hotplug to updates: {network: {when: [...]}}, if it is not meant so")]
    return [ok("managed", "%s, by %s" % (instance.datasource() or "no datasource", on.backend.name))]


def drop_in() -> List[Result]:
    """Whether cloud-init finds our datasources: a later file may set the list of packages as well."""
    name = "drop-in"
    reinstall = "install the package again"
    if not os.path.lexists(paths.OUR_DROP_IN):
        return [failed(name, "%s is missing" % paths.OUR_DROP_IN, reinstall)]
    if not os.path.isfile(paths.OUR_DROP_IN):
        return [failed(name, "%s is a dangling link" % paths.OUR_DROP_IN, reinstall)]
    setters, unreadable = _setters()
    results = [
        failed(name, "%s is not valid YAML, cloud-init ignores it" % path, "correct or remove it")
        for path in unreadable
    ]
    last = setters[-1] if setters else None
    if last is None or _OURS not in _listed(last["value"]):
        where = last["path"] if last else paths.OUR_DROP_IN
        advice = "remove %s from it, or add %s to its list, first" % (_KEY, _OURS)
        found = "%s of %s is in force, without %s" % (_KEY, where, _OURS)
        return [*results, failed(name, found, advice)]
    missing = [package for package in _listed(last["value"]) if not _exists(package)]
    if missing:
        found = "%s lists packages that do not exist: %s" % (last["path"], ", ".join(missing))
        return [*results, failed(name, found, "remove them: cloud-init finds no datasource at all, from 22.3 on")]
    return results or [ok(name, "in force, from %s" % last["path"])]


def _setters() -> Any:
    """Returns the files that set the list, in cloud-init's order (the last one counts), and those with errors."""
    import yaml

    found: List[Dict[str, Any]] = []
    unreadable = []
    for path in [paths.CLOUD_CFG, *sorted(glob.glob(os.path.join(paths.DROP_INS, "*.cfg")))]:
        if not os.path.isfile(path):
            continue
        try:
            config = yaml.safe_load(files.read(path) or "")
        except (yaml.YAMLError, ValueError, OSError):
            unreadable.append(path)
            continue
        if isinstance(config, dict) and _KEY in config:
            found.append({"path": path, "value": config[_KEY]})
    return found, unreadable


def _listed(value: Any) -> List[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _exists(package: str) -> bool:
    try:
        return not package or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def datasource_class() -> List[Result]:
    """Which datasource class this boot used, and which one the next boot will restore from cloud-init's cache."""
    name = "datasource"
    adopt = "run `cloudinit-osnetd datasource adopt`"
    level = (files.read_json(paths.BOOT) or {}).get("level")
    cached = _read(paths.DATASOURCE_CACHE)
    if instance.datasource() not in ("ConfigDrive", "OpenStack"):
        return [skipped(name, "%s: not OpenStack's" % (instance.datasource() or "none"))]
    if cached is None:
        found = "cloud-init has no cached datasource"
        return [warning(name, found, "nothing, if it reads its datasource at each boot")]
    if not any(signature in cached for signature in _SIGNATURES):
        return [failed(name, "the cached datasource has cloud-init's own class: the next boot uses that", adopt)]
    if level is None:
        found = "this boot did not use the class of this package, the next one will"
        return [warning(name, found, "nothing, if the package was installed since the boot; else see the drop-in")]
    return [ok(name, "this boot used %s, fallback level %s" % (_OURS, level))]


def _read(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb") as fh:
            return fh.read()
    except OSError:
        return None


def instance_of_caches() -> List[Result]:
    """Whether caches belong to this instance: a server may have been made from a snapshot of another one."""
    name = "instance"
    here = instance.instance_id()
    if not here:
        return [failed(name, "cloud-init has no instance", "see `cloud-init status --long`")]
    results = []
    stored = files.read_json(paths.STORE)
    if isinstance(stored, dict) and stored.get("instance_id") != here:
        found = "the state is that of instance %s, this is %s" % (stored.get("instance_id"), here)
        results.append(failed(name, found, "run `cloudinit-osnetd reconcile`: it drops the other instance's state"))
    kept = [(path, (files.read(path) or "").strip()) for path in paths.INSTANCE_ID]
    other = [(path, text) for path, text in kept if text and text != here]
    for path, text in other:
        found = "%s says %s, this is %s" % (path, text, here)
        results.append(failed(name, found, "run `cloud-init clean`, and reboot"))
    product = "" if os.path.exists(paths.CONTAINER) else (_text(paths.PRODUCT_UUID)).lower()
    if product and instance.datasource() in ("ConfigDrive", "OpenStack") and product != here.lower():
        found = "cloud-init's instance is %s, the hardware's is %s" % (here, product)
        advice = "if this server was made from a snapshot: `cloud-init clean`, and reboot"
        results.append(warning(name, found, advice))
    return results or [ok(name, here)]


def _text(path: str) -> str:
    raw = _read(path)
    return raw.decode("utf-8", "replace").strip() if raw else ""
