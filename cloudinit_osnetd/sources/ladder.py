# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What an overridden datasource gives cloud-init as its network config, from rung to rung.

1. `store`: the truth, of the NICs that are here; a document read anew at this boot is heard first.
2. `drive` (or `metadata`): the document alone, less the links that have no NIC.
3. `last-good`: what was given when it last worked.
4. `built-in`: whatever the built-in class makes of it.

Each names the kernel's name of this moment, so nothing is ever renamed. The rung that served is
noted in boot/rung.json, under /run/cloudinit-osnetd.
"""

import json
import logging
import os
import time
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Tuple

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

LOG = logging.getLogger(__name__)
_DEVICES = "/sys/class/net"
Leaves = Callable[[List[desired.Want], Dict[str, Nic]], List[desired.Want]]
_LAST_GOOD = paths.STATE + "/last-good.json"


def note_rung(rung: str, source: str, problems: List[str], config: Any = None) -> None:
    """Tell status, and the tests, which rung served this boot; and the early flow, under which names.

    cloud-init asks in its local stage and once more in its network stage: the first answer is the
    one that it renders or takes names from, the others are listed behind it.
    """
    noted = files.read_json(paths.BOOT)
    noted = noted if isinstance(noted, dict) else {}
    rungs = noted.get("rungs", []) + [rung]
    noted.update(rung=rungs[0], rungs=rungs, source=source)
    noted.setdefault("problems", problems)
    noted.setdefault("names", _names(config))
    try:
        files.replace(paths.BOOT, json.dumps(noted) + "\n", sync=False)
    except OSError as exc:
        LOG.warning("rung not noted: %s", exc)


def _names(config: Any) -> Dict[str, str]:
    """By MAC: the names of the NICs in a version 1 network config."""
    items = config.get("config") if isinstance(config, dict) else None
    return {
        str(item["mac_address"]).lower(): str(item["name"])
        for item in (items if isinstance(items, list) else [])
        if item.get("type") == "physical" and item.get("mac_address") and item.get("name")
    }


def never_rename(distro: Any) -> None:
    """Keep the eni and sysconfig renderers from writing 70-persistent-net.rules."""
    configs = getattr(distro, "renderer_configs", None)
    for name in ("eni", "sysconfig"):
        if isinstance(configs, dict) and isinstance(configs.get(name), dict):
            configs[name]["netrules_path"] = None


def _convert(document: Dict[str, Any], known_macs: Dict[str, str]) -> Dict[str, Any]:
    return dict(openstack.convert_net_json(document, known_macs=known_macs))


def _nics(expected: FrozenSet[str]) -> Dict[str, Nic]:
    """The NICs by MAC; udev is waited for only where one that is expected is missing, or one is not named yet."""
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
    leaves: Leaves = lambda _wants, _nics: _wants,
    bonds: Optional[Mapping[str, str]] = None,
) -> Optional[Dict[str, Any]]:
    """The network config of a truth, or of what of it `leaves` leaves; None where none of its keys has a NIC."""
    nics = _nics(expected)
    named = desired.known_bonds(bonds or {}, known, nics, network_config.supports_bond_names(_convert))
    keys = desired.configurable(known, nics)
    metrics = desired.give_metrics(known, keys, given, configured)
    wants = desired.desired(known, nics, bonds=named, given=metrics)
    return network_config.build(leaves(wants, nics), _convert) if wants else None


def _not_left(
    wants: List[desired.Want],
    nics: Dict[str, Nic],
    known: truth.Truth,
    listed: FrozenSet[str],
    state: store.State,
) -> List[desired.Want]:
    """Less the NICs that are left to others: of those cloud-init is told what it would know by itself, and no more.

    `listed`: the keys of the document that it has.
    """
    on = context.load(remember=False)
    left = desired.left_alone(known, nics, on.settings.ignore, state.bonds)
    backend = backends.of_renderer(on.renderer)
    # What has a part too: cloud-init may write the file anew, and must not lose it.
    told = listed | {row.key for row in state.ledger}
    theirs = backend.theirs([item for want in wants for item in want.items]) if backend else {}
    return [
        want
        for want in wants
        if told & want.keys or not (left & want.keys or any(item.name in theirs for item in want.items))
    ]


def _last_good(config: Dict[str, Any], instance_id: str) -> None:
    text = json.dumps({"instance_id": instance_id, "config": config}, sort_keys=True) + "\n"
    try:
        if os.path.isdir(paths.STATE) and files.read(_LAST_GOOD) != text:
            files.replace(_LAST_GOOD, text, mode=0o600)
    except OSError as exc:
        LOG.warning("last good config not kept: %s", exc)


def ask(instance_id: str) -> Optional[truth.Truth]:
    """The truth with what the metadata service says now, None where it does not answer.

    Nothing is kept: our own run, of the same event, will ask for itself.
    """
    pinned = context.load(remember=False).settings.metadata_nic
    heard = refresh.refresh_metadata(store.load(instance_id), netlink.snapshot(), pinned, may_open=False)
    for fault in heard.faults:
        LOG.warning("network_data: %s", fault)
    return heard.state.truth if heard.answered else None


def _undisturbed(step: Callable[[], Optional[Dict[str, Any]]]) -> Optional[Dict[str, Any]]:
    """The answer; once more where a NIC came or went meanwhile, over which cloud-init's reading of sysfs breaks."""
    for _again in range(3):
        there = set(os.listdir(_DEVICES))
        try:
            return step()
        except Exception:  # noqa: BLE001 - cloud-init's own code; whatever it raises
            if set(os.listdir(_DEVICES)) == there:
                raise
    return step()


def climb(
    source: str,
    document: Any,
    fresh: bool,
    instance_id: str,
    built_in: Callable[[], Any],
    heard: Optional[truth.Truth] = None,
) -> Tuple[Any, str, List[str]]:
    """The network config, the rung that gave it, and the problems of the rungs above it.

    `source` is "drive" or "metadata", `document` its network_data as JSON, `fresh` True where it
    was read at this boot and not taken from cloud-init's cache; `heard` is what `ask` returned.
    """
    problems: List[str] = []
    data = None
    try:
        data = network_data.parse(document, _macs_by_name)
        problems.extend(fault.text for fault in data.faults)
    except network_data.Refused as exc:
        problems.append(str(exc))

    def from_store() -> Optional[Dict[str, Any]]:
        state = store.load(instance_id)
        known = heard or state.truth
        if not known.keys or not context.load(remember=False).settings.enabled:
            return None
        if data is not None and fresh:
            known = truth.observe(known, source, data, time.time())
        known = rejections.believed(known, state.rejections, None)
        listed = frozenset(data.entries) if data is not None else frozenset()
        # An entry without a NIC is a normal state: only what had one last time is waited for.
        return _config(
            known,
            frozenset(row.mac for row in state.ledger if row.key.endswith("/phy")),
            state.metrics,
            frozenset(row.key for row in state.ledger),
            lambda wants, nics: _not_left(wants, nics, known, listed, state),
            state.bonds,
        )

    def from_document() -> Optional[Dict[str, Any]]:
        if data is None:
            return None
        listed = frozenset(e.mac for e in data.entries.values() if e.kind == "phy")
        return _config(truth.observe(truth.EMPTY, source, data, time.time()), listed, {}, frozenset())

    def from_last_good() -> Optional[Dict[str, Any]]:
        kept = files.read_json(_LAST_GOOD)
        if not isinstance(kept, dict) or kept.get("instance_id") != instance_id:
            return None
        config = kept.get("config")
        return config if isinstance(config, dict) else None

    rungs = [("store", from_store), (source, from_document)]
    if data is None or data.entries:
        rungs.append(("last-good", from_last_good))
    for rung, step in rungs:
        try:
            config = _undisturbed(step)
        except Exception as exc:  # noqa: BLE001 - a boot must not fail here, whatever it is
            LOG.warning("network config: rung %s failed: %r", rung, exc)
            problems.append("%s: %r" % (rung, exc))
            continue
        if config is not None:
            if rung != "last-good":
                _last_good(config, instance_id)
            return config, rung, problems
    return built_in(), "built-in", problems
