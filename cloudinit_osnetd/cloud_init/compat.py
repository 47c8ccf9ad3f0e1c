# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The interface to cloud-init of every supported version: the only module outside sources/ that imports it.

Differences between versions are found by checking attributes, never by a version number, because
distributions patch cloud-init. Importing this module costs some 20 ms, so it is imported only if
something has to be rendered or cloud-init's merged configuration has to be read again; the latter
costs as much again.

In a process of this package (lazy_imports.is_our_process) some work of cloud-init whose result is not
used is skipped. In cloud-init's own process, where the datasources in sources/ may import this
module, nothing of cloud-init is changed.
"""

import copy
import importlib
import logging
import os
from contextlib import contextmanager
from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple, Tuple

from ..core.records import Renderer
from ..system import files, lazy_imports, paths
from ..system.command import children_limited
from . import instance

# The lock is held during the request. A DHCP server answers within three seconds; dhclient alone would ask for 60.
_LEASE_SECONDS = 15.0
_DHCP_CLIENTS = ("dhclient", "dhcpcd", "udhcpc")

# Up to 23.3 importing cloudinit.log removes the root logger's handlers and sets its level to DEBUG.
_root, _cloudinit = logging.getLogger(), logging.getLogger("cloudinit")
_before = list(_root.handlers), _root.level, _cloudinit.level

# Modules that cloud-init imports at the top of its own, and that rendering does not use: for HTTP, for creating and
# pickling a datasource, for YAML, hashes and signals. Without requests an import is 40 ms faster, without the others
# thirty (docs/performance.md).
_NAMED_ONLY = (
    "requests",
    "requests.exceptions",
    "ftplib",
    "ssl",
    "cloudinit.user_data",
    "cloudinit.distros",
    "yaml",
    "cloudinit.safeyaml",
    "hashlib",
    "inspect",
    "pickle",
)
_BY_RENDERER = {"network-manager": ("cloudinit.net.sysconfig",)}
try:
    with lazy_imports.named_only(*(_NAMED_ONLY if lazy_imports.is_our_process() else ())):
        importlib.import_module("cloudinit.sources.helpers.openstack")
        # cloud-init imports this one to read any network config; it imports YAML as well.
        importlib.import_module("cloudinit.net.netplan")
except Exception as exc:  # noqa: BLE001 - this cloud-init uses them: they are imported
    logging.getLogger(__name__).info("cloud-init has to be imported with all its dependencies: %r", exc)

from cloudinit import net, util  # noqa: E402
from cloudinit.net import network_state  # noqa: E402
from cloudinit.sources.helpers import openstack  # noqa: E402

if lazy_imports.is_our_process():
    _root.handlers[:] = _before[0]
    _root.setLevel(_before[1])
    _cloudinit.setLevel(_before[2])


class Cloud(NamedTuple):
    """The part of cloud-init's configuration that is used here, as plain data."""

    renderer: str
    renderer_config: Dict[str, Any]
    disabled_by: str  # what disables or replaces the datasource's network config, empty if nothing does
    settings: Dict[str, Any]  # the merged `osnetd:` key
    updates: Dict[str, Any]  # the merged `updates:` key
    bond_names: bool  # True if cloud-init names a bond after its link
    reports: bool = False  # True if somebody is told of events: a webhook below `reporting:`, for example


_init: List[Any] = []


def _stages_init() -> Any:
    if not _init:
        from cloudinit import stages  # imports all configuration modules of cloud-init

        init = stages.Init(ds_deps=[])
        init.read_cfg()
        _init.append(init)
    return _init[0]


def _network_decided_before(cfg: Dict[str, Any]) -> str:
    """Returns what takes precedence over the datasource's network, in cloud-init's order; empty if nothing does."""
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
    if os.path.exists(paths.UPGRADED_NETWORK):
        return "disabled by " + paths.UPGRADED_NETWORK
    return ""


def _initramfs_config() -> Any:
    from cloudinit.net import cmdline

    read = getattr(cmdline, "read_initramfs_config", None)  # 19.1
    return read() if read else None


def cloud() -> Cloud:
    """Reads cloud-init's merged configuration, including the instance's cloud-config, from the files each time."""
    del _init[:]
    init = _stages_init()
    cfg = dict(init.cfg)
    # cloud-init reads this file through its link to the instance, which may be missing for a moment.
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
        bond_names=network_config.supports_bond_names(convert),
        reports=bool(_reporting(cfg)),
    )


def _reporting(cfg: Dict[str, Any]) -> Dict[str, Any]:
    """Returns what is set below `reporting:`, without what only writes to cloud-init's log, as its default does."""
    told = cfg.get("reporting")
    return {
        name: handler
        for name, handler in (told if isinstance(told, dict) else {}).items()
        if isinstance(handler, dict) and handler.get("type") != "log"
    }


class NotReported(Exception):
    """A handler of cloud-init's reporting framework did not take an event; the message has its log."""


class _Complaints(logging.Handler):
    """Collects the warnings of the handlers, which do not raise anything."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: List[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def report(events: List[Dict[str, Any]]) -> None:
    """Hands events to cloud-init's reporting framework, by what is set below `reporting:`.

    Each has "type" (start or finish), "name", "description", "time" (seconds since the epoch) and, if it is a finish,
    "result" (SUCCESS, WARN or FAIL). Raises NotReported if a handler failed, ValueError if the setting is invalid.
    """
    from cloudinit import reporting
    from cloudinit.reporting import events as framework

    cloud()
    cfg = dict(_stages_init().cfg)
    of_instance = instance.cloud_config()
    if of_instance and os.path.exists(of_instance):
        cfg = util.mergemanydict([util.read_conf(of_instance) or {}, cfg])
    try:
        reporting.update_configuration(_reporting(cfg))
    except (KeyError, TypeError, ValueError) as exc:
        raise ValueError("reporting: %r" % exc) from exc
    complaints = _Complaints()
    logging.getLogger("cloudinit.reporting.handlers").addHandler(complaints)
    for one in events:
        if one["type"] == "start":
            event = framework.ReportingEvent("start", one["name"], one["description"])
        else:
            event = framework.FinishReportingEvent(one["name"], one["description"], one["result"])
        event.timestamp = one["time"]
        framework.report_event(event)
    flush = getattr(reporting, "flush_events", None)  # 18.5: from then on a handler may have a queue
    if flush is not None:
        flush()
    if complaints.said:
        raise NotReported("; ".join(complaints.said)[:500])


def _renderer() -> Tuple[str, Dict[str, Any]]:
    """Returns the name and the configuration of the renderer that cloud-init selects on this server."""
    distro = _stages_init().distro
    system = getattr(distro, "_cfg", None) or {}
    priority = util.get_cfg_by_path(system, ("network", "renderers"), None)
    try:
        name, _class = importlib.import_module("cloudinit.net.renderers").select(priority=priority)
    except RuntimeError as exc:  # RendererNotFoundError
        logging.getLogger(__name__).info("%s", exc)
        return "", {}
    config = copy.deepcopy((distro.renderer_configs or {}).get(name) or {})
    # Rendering goes to a staging tree: it must not rename NICs or run commands.
    config.update({"netrules_path": None, "postcmds": False})
    # Without this, netplan's renderer runs `netplan info` to find out whether a subnet may have an MTU, which no
    # network_data has.
    config.setdefault("features", ["none"])
    return name, config


_get_infiniband = net.get_ib_hwaddrs_by_interface
_infiniband: Dict[FrozenSet[str], Any] = {}


def _infiniband_nics() -> Any:
    """Returns cloud-init's own answer, cached as long as the set of NICs is the same.

    cloud-init's conversion calls it each time, and it reads all of sysfs: converting n NICs would read n times n.
    """
    names = frozenset(os.listdir(paths.KERNEL_NICS))
    if names not in _infiniband:
        _infiniband.clear()
        _infiniband[names] = _get_infiniband()
    return _infiniband[names]


if lazy_imports.is_our_process():
    net.get_ib_hwaddrs_by_interface = _infiniband_nics
    # cloud-init dumps the state as YAML after each item of a network config, for its debug log only.
    network_state.NetworkStateInterpreter.dump_network_state = lambda _self: ""


def convert(network_json: Dict[str, Any], known_macs: Dict[str, str]) -> Dict[str, Any]:
    """Converts a network_data to a version 1 network config with cloud-init's own code."""
    return dict(openstack.convert_net_json(network_json, known_macs=known_macs))


class NoLease(Exception):
    """No server answered, or the client failed; the message says which."""


@contextmanager
def lease(name: str) -> Iterator[str]:
    """Holds a DHCP lease on a NIC while the block runs, with cloud-init's own sandboxed client; yields its address.

    Raises NoLease if no lease was obtained.
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
    except Exception as exc:  # noqa: BLE001 - the class depends on the version and the client
        raise NoLease("metadata via %s (DHCP): %r" % (name, exc)) from exc
    try:
        if not got:
            raise NoLease("metadata via %s (DHCP): no lease" % name)
        yield str(got.get("fixed-address", ""))
    finally:
        dhcp.__exit__(None, None, None)


def render(config: Dict[str, Any], tree: str, using: Renderer) -> None:
    """Lets a renderer write `config` (version 1) below `tree`."""
    # Not through cloudinit.net.renderers: it imports all renderers. NetworkManager's names a function of sysconfig's,
    # which imports the distros: a second.
    if using.name == "sysconfig":
        # It imports the distros, and from 23.2 on they import it by way of NetworkManager's: only this order works.
        importlib.import_module("cloudinit.distros")
    with lazy_imports.named_only(*(_BY_RENDERER.get(using.name, ()) if lazy_imports.is_our_process() else ())):
        module = importlib.import_module("cloudinit.net." + using.name.replace("-", "_"))
    renderer = module.Renderer(config=copy.deepcopy(dict(using.config)))
    state = network_state.parse_net_config_data(config, skip_broken=False)
    if state is None:
        raise ValueError("cloud-init does not accept this network config")
    if using.name == "netplan":
        _write_netplan(renderer, state, tree)
    else:
        renderer.render_network_state(state, target=tree)


def _write_netplan(renderer: Any, state: Any, tree: str) -> None:
    """Writes what netplan's renderer makes of `state`, without the renderer's own writer.

    From 24.2 to 25.2 that writer writes to the real /etc through netplan's library and ignores `target`.
    """
    text = renderer._render_content(state)  # noqa: SLF001 - there is no public method
    files.replace(os.path.join(tree, renderer.netplan_path.lstrip("/")), text, sync=False)
