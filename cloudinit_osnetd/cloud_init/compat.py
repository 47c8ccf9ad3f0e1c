# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""cloud-init, whatever its version: the only module outside sources/ that imports it.

Differences are found by probing for attributes, never by a version number: distributions patch
both. Importing this module costs some 20 ms, so it is imported only where something has to be
rendered or cloud-init's merged configuration has to be read anew; the latter costs as much again.

In a process of ours (late.in_our_process) some of what cloud-init does and nobody uses is left out.
In cloud-init's own, where the datasources in sources/ may import this, nothing of it is changed.
"""

import copy
import importlib
import logging
import os
from contextlib import contextmanager
from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple, Tuple

from ..core.records import Renderer
from ..system import files, lazy_imports
from ..system.command import children_limited
from . import instance

# The lock is held meanwhile. Whoever leases answers within a second or three; dhclient by itself asks for 60.
_LEASE_SECONDS = 15.0
_DHCP_CLIENTS = ("dhclient", "dhcpcd", "udhcpc")

# Up to 23.3 importing cloudinit.log takes the root logger's handlers away and opens it for DEBUG.
_root, _cloudinit = logging.getLogger(), logging.getLogger("cloudinit")
_before = list(_root.handlers), _root.level, _cloudinit.level

# What cloud-init's modules name at their top, and rendering does not use: to fetch something, to make a data source and
# to keep it, to read and dump YAML, to hash, to tell of a signal. With requests go 40 ms, with the others thirty
# (docs/performance.md).
_NAMED_ONLY = (
    "requests",
    "requests.exceptions",
    "ftplib",
    "ssl",
    "cloudinit.user_data",
    "cloudinit.distros",
    "yaml",
    "cloudinit.safeyaml",
    "concurrent.futures",
    "hashlib",
    "inspect",
    "pickle",
)
try:
    with lazy_imports.named_only(*(_NAMED_ONLY if lazy_imports.is_our_process() else ())):
        importlib.import_module("cloudinit.sources.helpers.openstack")
        # Whoever reads a network config asks this one whether it is meant: it names YAML as well.
        importlib.import_module("cloudinit.net.netplan")
except Exception as exc:  # noqa: BLE001 - a cloud-init that does more than name them gets them
    logging.getLogger(__name__).info("cloud-init has to be imported with all that it names: %r", exc)

from cloudinit import net, util  # noqa: E402
from cloudinit.net import network_state  # noqa: E402
from cloudinit.sources.helpers import openstack  # noqa: E402

if lazy_imports.is_our_process():
    _root.handlers[:] = _before[0]
    _root.setLevel(_before[1])
    _cloudinit.setLevel(_before[2])


class Cloud(NamedTuple):
    """What cloud-init's configuration says, as plain data."""

    renderer: str
    renderer_config: Dict[str, Any]
    disabled_by: str  # empty, or what takes the network out of cloud-init's hands
    settings: Dict[str, Any]  # the merged `osnetd:` key
    updates: Dict[str, Any]  # the merged `updates:` key
    bond_names: bool  # whether a bond is called as its link is


_init: List[Any] = []


def _stages_init() -> Any:
    if not _init:
        from cloudinit import stages  # with all of its configuration modules

        init = stages.Init(ds_deps=[])
        init.read_cfg()
        _init.append(init)
    return _init[0]


def _network_decided_before(cfg: Dict[str, Any]) -> str:
    """What outranks the datasource's network, in cloud-init's order; empty where nothing does."""
    from cloudinit.net import cmdline

    earlier = [
        ("the kernel command line", cmdline.read_kernel_cmdline_config()),
        ("the initramfs", _initramfs_config()),
        ("the system configuration (network: in cloud.cfg.d)", cfg.get("network")),
    ]
    for where, config in earlier:
        if isinstance(config, dict) and isinstance(config.get("network"), dict):
            config = config["network"]
        if net.is_disabled_cfg(config):
            return "disabled by " + where
        if config:
            return "configured by " + where
    if os.path.exists("/var/lib/cloud/data/upgraded-network"):
        return "disabled by /var/lib/cloud/data/upgraded-network"
    return ""


def _initramfs_config() -> Any:
    from cloudinit.net import cmdline

    read = getattr(cmdline, "read_initramfs_config", None)  # 19.1
    return read() if read else None


def cloud() -> Cloud:
    """Read cloud-init's merged configuration, the instance's cloud-config included, anew each time."""
    del _init[:]
    init = _stages_init()
    cfg = dict(init.cfg)
    # It reads this by its link to the instance, which may be away at the moment.
    of_instance = instance.cloud_config()
    if of_instance and os.path.exists(of_instance):
        cfg = util.mergemanydict([util.read_conf(of_instance) or {}, cfg])
    settings, updates = cfg.get("osnetd"), cfg.get("updates")
    renderer, renderer_config = _renderer()
    from . import network_config

    return Cloud(
        renderer=renderer,
        renderer_config=renderer_config,
        disabled_by=_network_decided_before(cfg),
        settings=settings if isinstance(settings, dict) else {},
        updates=updates if isinstance(updates, dict) else {},
        bond_names=network_config.heeds_bond_names(convert),
    )


def _renderer() -> Tuple[str, Dict[str, Any]]:
    """Name and configuration of the renderer that cloud-init would take here."""
    distro = _stages_init().distro
    system = getattr(distro, "_cfg", None) or {}
    priority = util.get_cfg_by_path(system, ("network", "renderers"), None)
    name, _class = importlib.import_module("cloudinit.net.renderers").select(priority=priority)
    config = copy.deepcopy((distro.renderer_configs or {}).get(name) or {})
    # Nothing may be renamed, and nothing may run: the tree is not the machine.
    config.update({"netrules_path": None, "postcmds": False})
    # Else netplan's renderer runs `netplan info`, to learn whether a subnet may have an MTU: a network_data's has none.
    config.setdefault("features", ["none"])
    return name, config


_ask_infiniband = net.get_ib_hwaddrs_by_interface
_infiniband: Dict[FrozenSet[str], Any] = {}


def _infiniband_nics() -> Any:
    """cloud-init's own answer, kept for as long as the same NICs are there.

    Its conversion asks for it each time, and that reads all of sysfs: with a conversion for each of n NICs, n times n.
    """
    there = frozenset(os.listdir("/sys/class/net"))
    if there not in _infiniband:
        _infiniband.clear()
        _infiniband[there] = _ask_infiniband()
    return _infiniband[there]


if lazy_imports.is_our_process():
    net.get_ib_hwaddrs_by_interface = _infiniband_nics
    # Reading a network config has all that was read so far dumped as YAML at each item, and nobody looks at it.
    network_state.NetworkStateInterpreter.dump_network_state = lambda _self: ""


def convert(network_json: Dict[str, Any], known_macs: Dict[str, str]) -> Dict[str, Any]:
    """cloud-init's own conversion of a network_data to its network config, version 1."""
    return dict(openstack.convert_net_json(network_json, known_macs=known_macs))


class NoLease(Exception):
    """Nobody answered, or the client failed; the message says which."""


@contextmanager
def lease(name: str) -> Iterator[str]:
    """A DHCP lease on a NIC, by cloud-init's own sandboxed client, for as long as the block runs; its address.

    Raises NoLease where there is none to be had.
    """
    try:
        from cloudinit.net.ephemeral import EphemeralDHCPv4  # 22.3
    except ImportError:
        from cloudinit.net.dhcp import EphemeralDHCPv4
    import inspect  # 6 ms

    takes = inspect.signature(EphemeralDHCPv4.__init__).parameters
    arguments: Dict[str, Any] = {"iface": name}
    if "distro" in takes:  # 23.2
        arguments["distro"] = _stages_init().distro
    dhcp = EphemeralDHCPv4(**arguments)
    try:
        with children_limited(_DHCP_CLIENTS, _LEASE_SECONDS):
            got = dhcp.__enter__()
    except Exception as exc:  # noqa: BLE001 - one of many classes, by version and by client
        raise NoLease("metadata via %s (DHCP): %r" % (name, exc)) from exc
    try:
        if not got:
            raise NoLease("metadata via %s (DHCP): no lease" % name)
        yield str(got.get("fixed-address", ""))
    finally:
        dhcp.__exit__(None, None, None)


def render(config: Dict[str, Any], tree: str, using: Renderer) -> None:
    """Let a renderer write `config` (version 1) below `tree`."""
    # Not by cloudinit.net.renderers: it imports all of them, and NetworkManager's brings the distros along.
    module = importlib.import_module("cloudinit.net." + using.name.replace("-", "_"))
    renderer = module.Renderer(config=copy.deepcopy(dict(using.config)))
    state = network_state.parse_net_config_data(config, skip_broken=False)
    if state is None:
        raise ValueError("cloud-init makes nothing of this network config")
    if using.name == "netplan":
        _write_netplan(renderer, state, tree)
    else:
        renderer.render_network_state(state, target=tree)


def _write_netplan(renderer: Any, state: Any, tree: str) -> None:
    """What netplan's renderer makes of `state`, without its writer.

    That one writes the real /etc through netplan's own library (24.2 to 25.2), whatever `target` says.
    """
    text = renderer._render_content(state)  # noqa: SLF001 - there is no other way to it
    files.replace(os.path.join(tree, renderer.netplan_path.lstrip("/")), text, sync=False)
