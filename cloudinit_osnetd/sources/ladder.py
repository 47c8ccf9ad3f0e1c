# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The network config that an overridden datasource gives cloud-init, with its fallback levels.

1. `store`: the truth, of the NICs that are present; a document that was read at this boot is recorded first.
2. `drive` (or `metadata`): the document alone, without the links that have no NIC.
3. `last-good`: the last network config that was given.
4. `built-in`: the network config of the built-in class.

Every level uses the kernel's current names, so nothing is ever renamed. The level that was used is
noted in boot/fallback.json, under /run/cloudinit-osnetd.
"""

import json
import logging
import os
import time
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Tuple

from cloudinit import util
from cloudinit.sources.helpers import openstack

from .. import backends
from ..cloud_init import context, network_config
from ..core import desired, network_data, rejections, truth
from ..core.records import Nic
from ..kernel import netlink
from ..openstack import refresh
from ..state import store
from ..system import files, paths
from ..system.boot_id import boot_id

LOG = logging.getLogger(__name__)
Select = Callable[[List[desired.Want], Dict[str, Nic]], List[desired.Want]]
_LAST_GOOD = paths.STATE + "/last-good.json"


def note_level(level: str, source: str, problems: List[str], config: Any = None) -> None:
    """Notes the level that was used at this boot, for status and the tests, and the names, for the early unit.

    cloud-init asks in its local stage and again in its network stage. It renders the first answer and
    takes the names from it; the levels of the later answers are listed after it.
    """
    noted = files.read_json(paths.BOOT)
    noted = noted if isinstance(noted, dict) else {}
    levels = noted.get("levels", []) + [level]
    noted.update(level=levels[0], levels=levels, source=source)
    noted.setdefault("problems", problems)
    noted.setdefault("names", _names(config))
    try:
        files.replace(paths.BOOT, json.dumps(noted) + "\n", sync=False)
    except OSError as exc:
        LOG.warning("fallback level not noted: %s", exc)


def _names(config: Any) -> Dict[str, str]:
    """Returns by MAC the names of the NICs in a version 1 network config."""
    items = config.get("config") if isinstance(config, dict) else None
    return {
        str(item["mac_address"]).lower(): str(item["name"])
        for item in (items if isinstance(items, list) else [])
        if item.get("type") == "physical" and item.get("mac_address") and item.get("name")
    }


def never_rename(distro: Any) -> None:
    """Prevents the eni and sysconfig renderers from writing 70-persistent-net.rules."""
    configs = getattr(distro, "renderer_configs", None)
    for name in ("eni", "sysconfig"):
        if isinstance(configs, dict) and isinstance(configs.get(name), dict):
            configs[name]["netrules_path"] = None


def _convert(document: Dict[str, Any], known_macs: Dict[str, str]) -> Dict[str, Any]:
    return dict(openstack.convert_net_json(document, known_macs=known_macs))


def _nics(expected: FrozenSet[str]) -> Dict[str, Nic]:
    """Returns the NICs by MAC; waits for udev only if an expected NIC is missing or one has no final name yet."""
    nics = netlink.snapshot().by_mac(early=True)
    if expected - set(nics) or netlink.awaits_udev(nics.values()):
        util.udevadm_settle()
        nics = netlink.snapshot().by_mac(early=True)
    return nics


def _macs_by_name() -> Dict[str, str]:
    return {nic.name: mac for mac, nic in _nics(frozenset()).items()}


def _config(
    known: truth.Truth,
    expected: FrozenSet[str],
    given: Mapping[str, int],
    configured: FrozenSet[str],
    select: Select = lambda wants, _nics: wants,
    bonds: Optional[Mapping[str, str]] = None,
) -> Optional[Dict[str, Any]]:
    """Returns the network config of the part of a truth that `select` returns; None if none of its keys has a NIC."""
    nics = _nics(expected)
    named = desired.names_of_bonds(bonds or {}, known, nics, network_config.supports_bond_names(_convert))
    keys = desired.configurable(known, nics)
    metrics = desired.assign_metrics(known, keys, given, configured)
    wants = desired.desired(known, nics, bonds=named, given=metrics)
    if not wants:
        return None
    accepted = network_config.for_renderer(select(wants, nics), lambda: context.load(remember=False).renderer)
    return network_config.build(accepted, _convert)


def _without_unmanaged(
    wants: List[desired.Want],
    nics: Dict[str, Nic],
    known: truth.Truth,
    listed: FrozenSet[str],
    state: store.State,
) -> List[desired.Want]:
    """Removes the NICs that are left to other software, unless cloud-init's own document or an old part has them.

    `listed` has the keys of the document that cloud-init has.
    """
    on = context.load(remember=False)
    left = desired.unmanaged(known, nics, on.settings.ignore, state.bonds)
    backend = backends.of_renderer(on.renderer)
    # NICs with a part in the ledger are kept too: cloud-init may rewrite the file, and must not lose the part.
    kept = listed | {row.key for row in state.ledger}
    claimed = backend.configured_elsewhere([item for want in wants for item in want.items]) if backend else {}
    return [
        want
        for want in wants
        if kept & want.keys or not (left & want.keys or any(item.name in claimed for item in want.items))
    ]


def _keep_last_good(config: Dict[str, Any], instance_id: str) -> None:
    text = json.dumps({"instance_id": instance_id, "config": config}, sort_keys=True) + "\n"
    try:
        if os.path.isdir(paths.STATE) and files.read(_LAST_GOOD) != text:
            files.replace(_LAST_GOOD, text, mode=0o600)
    except OSError as exc:
        LOG.warning("last good network config not saved: %s", exc)


def refreshed_truth(instance_id: str) -> Optional[truth.Truth]:
    """Returns the truth with the current answer of the metadata service, None if it does not answer.

    Nothing is saved: the run that the same event starts asks the service itself.
    """
    pinned = context.load(remember=False).settings.metadata_nic
    result = refresh.refresh_metadata(store.load(instance_id), netlink.snapshot(), pinned, may_open=False)
    for fault in result.faults:
        LOG.warning("network_data: %s", fault)
    return result.state.truth if result.answered else None


class _Request(NamedTuple):
    """What cloud-init asks for, and what is known of it."""

    source: str  # "drive" or "metadata"
    data: Optional[network_data.NetworkData]  # the parsed document, None if it is refused
    fresh: bool
    instance_id: str
    refreshed: Optional[truth.Truth]


def _retried_on_hotplug(
    read: Callable[[_Request], Optional[Dict[str, Any]]], request: _Request
) -> Optional[Dict[str, Any]]:
    """Calls `read`, again if it fails while a NIC is added or removed: cloud-init's reading of sysfs then raises."""
    for _attempt in range(3):
        before = set(os.listdir(paths.KERNEL_NICS))
        try:
            return read(request)
        except Exception:  # noqa: BLE001 - cloud-init's own code; whatever it raises
            if set(os.listdir(paths.KERNEL_NICS)) == before:
                raise
    return read(request)


def _without_unconfirmed(
    text: str, known: truth.Truth, rejected: rejections.Rejections
) -> Tuple[truth.Truth, rejections.Rejections]:
    """Leaves out a push that was not confirmed before the reboot: the early unit takes it back."""
    from ..core import provisional

    held = provisional.read(text)
    return (known, rejected) if held is None or held.boot == boot_id() else provisional.without(held, known, rejected)


def _from_store(request: _Request) -> Optional[Dict[str, Any]]:
    state = store.load(request.instance_id)
    known = request.refreshed or state.truth
    if not known.keys or not context.load(remember=False).settings.enabled:
        return None
    rejected = state.rejections
    if state.provisional:
        known, rejected = _without_unconfirmed(state.provisional, known, rejected)
    if request.data is not None and request.fresh:
        known = truth.observe(known, request.source, request.data, time.time())
    known = rejections.apply(known, rejected, None)
    listed = frozenset(request.data.entries) if request.data is not None else frozenset()
    # An entry without a NIC is normal: only a NIC that was configured at the last run is waited for.
    return _config(
        known,
        frozenset(row.mac for row in state.ledger if row.key.endswith("/phy")),
        state.metrics,
        frozenset(row.key for row in state.ledger),
        lambda wants, nics: _without_unmanaged(wants, nics, known, listed, state),
        state.bonds,
    )


def _from_document(request: _Request) -> Optional[Dict[str, Any]]:
    if request.data is None:
        return None
    listed = frozenset(e.mac for e in request.data.entries.values() if e.kind == "phy")
    known = truth.observe(truth.EMPTY, request.source, request.data, time.time())
    return _config(known, listed, {}, frozenset())


def _from_last_good(request: _Request) -> Optional[Dict[str, Any]]:
    kept = files.read_json(_LAST_GOOD)
    if not isinstance(kept, dict) or kept.get("instance_id") != request.instance_id:
        return None
    config = kept.get("config")
    return config if isinstance(config, dict) else None


def choose(
    source: str,
    document: Any,
    fresh: bool,
    instance_id: str,
    built_in: Callable[[], Any],
    refreshed: Optional[truth.Truth] = None,
) -> Tuple[Any, str, List[str]]:
    """Returns the network config, the level that gave it, and the problems of the document and the levels before it.

    `source` is "drive" or "metadata", `document` its network_data as JSON. `fresh` is True if the
    document was read at this boot and not taken from cloud-init's cache; `refreshed` is what
    `refreshed_truth` returned.
    """
    problems: List[str] = []
    data = None
    try:
        data = network_data.parse(document, _macs_by_name)
        problems.extend(fault.text for fault in data.faults)
    except network_data.Refused as exc:
        problems.append(str(exc))
    request = _Request(source, data, fresh, instance_id, refreshed)
    levels = [("store", _from_store), (source, _from_document)]
    if data is None or data.entries:
        levels.append(("last-good", _from_last_good))
    for level, read in levels:
        try:
            config = _retried_on_hotplug(read, request)
        except Exception as exc:  # noqa: BLE001 - a boot must not fail here, for whatever reason
            LOG.warning("network config: level %s failed: %r", level, exc)
            problems.append("%s: %r" % (level, exc))
            continue
        if config is not None:
            if level != "last-good":
                _keep_last_good(config, instance_id)
            return config, level, problems
    return built_in(), "built-in", problems
