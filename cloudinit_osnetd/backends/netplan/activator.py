# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netplan on systemd-networkd: one YAML file for all NICs, of which a generator makes networkd's files below /run.

`netplan generate` writes each of those anew and `netplan apply` reconfigures every link. So the generator writes into a
directory of ours, and what our change made different there is put in place, and nothing else.
"""

import functools
import glob
import logging
import os
import shutil
from typing import Any, Callable, Container, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ...core.desired import Item, wanted_metric
from ...core.records import Dns, Part, Touch
from ...system import files, paths
from ...system.command import CommandError, run
from ..base import Backend, first_of
from ..networkd import dns_over_dbus, file_routes, links, match_section, netdevs
from . import loaded_files, other_files, yaml_file, yaml_keys
from .other_files import FILE

LOG = logging.getLogger(__name__)
# Since 1.2 the generator is content with units, and another program writes the rest.
_GENERATORS = (
    "/usr/libexec/netplan/configure",
    "/usr/libexec/netplan/generate",
    "/usr/lib/netplan/generate",
    "/lib/netplan/generate",
)
_OLD, _NEW = paths.GENERATED + "/old", paths.GENERATED + "/new"
# What of the generator's output is put in place: networkd's and udevd's. systemd reads units at a daemon-reload only.
_PLACES = ("/run/systemd/network", "/run/udev/rules.d")
_PREFIX = "10-netplan-"
_FILES = netdevs.Files(loaded_files.RUNTIME, _PREFIX)
_DROP_IN = "cloudinit-osnetd.conf"
_ADVERTISED = "cloudinit-osnetd-advertised.conf"
# Since 1.1 netplan names the NICs to wait for, in a drop-in of the unit that waits; where there is none, it does not.
_WAITER = "systemd-networkd-wait-online.service"
_WAITING = "/run/systemd/system/" + _WAITER + ".d/10-netplan.conf"
_OUR_WAITING = "/run/systemd/system/" + _WAITER + ".d/20-cloudinit-osnetd.conf"
_WAIT = """\
[Unit]
ConditionPathIsSymbolicLink=

[Service]
ExecStart=
ExecStart=/lib/systemd/systemd-networkd-wait-online -i {name}:degraded
ExecStart=/lib/systemd/systemd-networkd-wait-online --any -o routable -i {name}
"""


class Netplan(Backend):
    name = "netplan"
    mode = 0o600  # netplan warns of a file that others may read
    lag, drops_foreign = links.LAG, True
    finishes_at_boot = True
    waits_for_unique = True
    directories = (os.path.dirname(FILE), loaded_files.RUNTIME + "/*.network.d", os.path.dirname(_OUR_WAITING))

    def unfit(self) -> str:
        """networkd is what is supported; netplan's files may hand all NICs to NetworkManager, as a desktop's do."""
        chosen, by = other_files.chosen_renderer()
        return "" if chosen == "networkd" else "netplan's renderer is %s (%s)" % (chosen, by)

    def staged(self, tree: str) -> List[Part]:
        text = files.read(tree + FILE)
        parts = yaml_file.split(text) if text is not None else {}
        return [Part(FILE, name, name, part) for name, part in parts.items()]

    def finish(self, text: str, item: Item) -> str:
        """What cloud-init's renderer does not say, less what it should not.

        `set-name` renames a NIC at the next boot. Without it, and with an MTU, netplan makes a .link file that takes
        the place of udev's naming policy for the MAC; with the name matched as well that file never applies.
        """
        group, name, body = yaml_file.only(text)
        if item.entry.kind == "phy":
            body.pop("set-name", None)
            body["match"] = {"macaddress": item.entry.mac, "name": match_section.bracketed(item.name)}
        if item.metric:
            # netplan wants them alike where both are there; networkd gives it to advertised routes too. Where there
            # is no DHCP netplan makes nothing of it: see _rank_advertised.
            for family in _families(body) or ["dhcp6"]:
                body[family + "-overrides"] = {"route-metric": item.metric}
            # The boot waits for the first NIC alone.
            body["optional"] = True
        neighbours = file_routes.on_link(item)
        for route in body.get("routes", []):
            if route.get("via") in neighbours:
                route["on-link"] = True
        left_out = file_routes.advertised(item)
        # cloud-init says routes and DNS beside a static address only, and none on the link.
        added = [
            yaml_keys.route(route, wanted_metric(item, route), route.gateway in neighbours)
            for net in item.entry.networks
            for route in net.routes
            if not (route.gateway and (net.address or route.gateway in item.own)) and route not in left_out
        ]
        if added:
            body.setdefault("routes", []).extend(one for one in added if one not in body["routes"])
        for field, words in (("addresses", item.all_dns), ("search", item.all_search)):
            if words:
                known = body.setdefault("nameservers", {}).setdefault(field, [])
                known += [word for word in words if word not in known]
        if item.entry.kind == "bond":
            yaml_keys.add_options(body, item.entry.params)
        return yaml_file.part(group, name, body)

    def check(self, parts: Sequence[Part], tree: str) -> None:
        """Have netplan read the finished parts: a file that it refuses is a boot without any network."""
        text = yaml_file.join(None, {part.name: part.text for part in parts})
        root = os.path.join(tree, "check")
        files.replace(root + FILE, text, mode=self.mode, sync=False)
        try:
            _run_generator(root)
        except CommandError as exc:
            raise ValueError("netplan refuses it: %s" % exc) from exc

    def claimed(self, items: Sequence[Item]) -> Dict[str, str]:
        return dict(self._of_networkd(items), **other_files.claimed(items))

    def theirs(self, items: Sequence[Item]) -> Dict[str, str]:
        return dict(self._of_networkd(items), **other_files.theirs(items))

    def _of_networkd(self, items: Sequence[Item]) -> Dict[str, str]:
        """What somebody says to networkd himself, beside netplan or over its files."""
        return match_section.claimed(items, match_section.Ours(loaded_files.RUNTIME, _PREFIX))

    def referred(self, ours: Container[Tuple[str, str]]) -> Dict[str, str]:
        """Without a definition of what a VLAN, a bridge or a bond stands on, netplan refuses all that there is."""
        return other_files.referred(ours)

    def split(self, text: str) -> Dict[str, str]:
        try:
            return yaml_file.split(text)
        except yaml_file.NotNetplan as exc:
            LOG.error("unreadable: file=%s error=%s", FILE, exc)
            return {}

    def join(self, old: Optional[str], template: Optional[str], changes: Dict[str, Optional[str]]) -> Optional[str]:
        return yaml_file.join(old, changes)

    def normal(self, text: str) -> str:
        return yaml_file.meaning(text)

    def meaning(self, text: str, name: str) -> FrozenSet[str]:
        from . import yaml_meaning  # of use where something has to be told from something else alone

        return yaml_meaning.of(text)

    def boot(self, items: Sequence[Item], left: FrozenSet[str] = frozenset()) -> None:
        """Put in place what does not fit: systemd ran the generator before the early flow."""
        try:
            _generate(_NEW)
            new, now = _output(_NEW), _output(other_files.TOP)
            changed = _differing(new, now)
            for path in sorted(changed):
                _put(_Change(path, new.get(path)))
            stale = bool(changed) and _waits_for_others()
        except (CommandError, OSError) as exc:
            LOG.error("netplan does not generate: %s", exc)
            stale = False
        shutil.rmtree(paths.GENERATED, ignore_errors=True)
        try:
            _rank_advertised([item.name for item in items if item.name not in left])
            waits = _wait_for_first(items, left)
            if stale or waits:
                # The unit that waits for the network names the NICs; systemd has read it already.
                run(["systemctl", "daemon-reload"])
            if waits:
                # netplan had no NIC to wait for: nothing may have asked for the unit. Where it is masked, nobody waits.
                run(["systemctl", "start", "--no-block", _WAITER])
        except (CommandError, OSError) as exc:
            LOG.warning("the boot may not wait for the right NIC: %s", exc)
        loaded_files.note()

    def edits(self, touches: Sequence[Touch], coming: Mapping[str, str]) -> Dict[str, Callable[[], bool]]:
        """A difference in DNS alone is told to networkd over D-Bus; its file below /run follows with the next boot."""
        changed = {touch.name for touch in touches if touch.action == "reconfigure"}.intersection(coming)
        ours = self.split(files.read(FILE) or "") if changed else {}
        found: Dict[str, Callable[[], bool]] = {}
        for name in changed.intersection(ours):
            differs = yaml_file.dns_difference(ours[name], coming[name])
            if differs is not None:
                found[name] = functools.partial(dns_over_dbus.dns, name, *differs)
        return found

    def before(self, touches: Sequence[Touch]) -> None:
        """Keep what the generator makes of the old file, to know afterwards what our change changes."""
        netdevs.note(touches, _FILES)
        try:
            _generate(_OLD)
        except CommandError as exc:
            LOG.warning("netplan does not take its configuration as it is: %s", exc)
            shutil.rmtree(_OLD, ignore_errors=True)

    def after(self, touches: Sequence[Touch], files_changed: bool) -> Dict[str, str]:
        """Put in place what our change made different, and reload once."""
        problems: Dict[str, str] = {}
        try:
            _generate(_NEW)
            changed = _to_change({touch.name for touch in touches})
            names = frozenset(os.path.basename(change.path) for change in changed)
            with loaded_files.held(names):
                for change in changed:
                    _put(change)
                _rank_advertised([touch.name for touch in touches if touch.action != "down"])
                if changed or any(touch.action == "kick" for touch in touches):
                    problems = netdevs.reload(touches, _FILES, lambda: run(["networkctl", "reload"]))
        except (CommandError, OSError) as exc:
            return {touch.name: str(exc) for touch in touches}
        finally:
            shutil.rmtree(paths.GENERATED, ignore_errors=True)
        for touch in touches:
            dns_over_dbus.forget(touch.name)
        there = [touch for touch in touches if touch.action != "kick" or not netdevs.to_come(touch.name, _FILES)]
        return dict(problems, **links.after_reload(there))

    def dns(self, name: str, ifindex: int) -> Optional[Dns]:
        return links.dns(ifindex)


# -- the generator --------------------------------------------------------------------------------------------------


class _Change(NamedTuple):
    """A file below /run, and the one that replaces it (None: it goes)."""

    path: str
    new: Optional[str]


def _generate(root: str) -> None:
    """Have the generator write below `root` what it makes of the configuration as it is."""
    shutil.rmtree(root, ignore_errors=True)
    for path in other_files.paths():
        files.replace(root + path, other_files.text_of(path), mode=0o600, sync=False)
    _run_generator(root)


def _run_generator(root: str) -> None:
    # The program that netplan's own command line runs: Python and two more commands less.
    there = [path for path in _GENERATORS if os.path.exists(path)]
    run((there[:1] or ["netplan", "generate"]) + ["--root-dir", root])


def _output(root: str) -> Dict[str, str]:
    """The generator's files below `root`, by where they belong."""
    return {
        path[len(root) :]: path
        for place in _PLACES
        for path in glob.glob(root + place + "/*netplan*")
        if os.path.isfile(path)
    }


def _differing(new: Dict[str, str], old: Dict[str, str]) -> FrozenSet[str]:
    paths_ = set(new) | set(old)
    return frozenset(path for path in paths_ if _content(new.get(path)) != _content(old.get(path)))


def _content(path: Optional[str]) -> Optional[bytes]:
    return loaded_files.content(path) if path is not None else None


def _to_change(names: Set[str]) -> List[_Change]:
    """What our change made different, and what is not there of the NICs touched.

    What else differs was changed by others and is not for us to put in force.
    """
    new, now = _output(_NEW), _output(other_files.TOP)
    differing = _differing(new, now)
    ours = _differing(new, _output(_OLD)) if os.path.isdir(_OLD) else frozenset()
    changed = {path for path in differing if path in ours or _nic_of(path) in names}
    return [_Change(path, new.get(path)) for path in sorted(changed)]


def _waits_for_others() -> bool:
    """False where the generator has the boot wait for the same NICs as before; up to 1.1 it can be asked."""
    then, now = (loaded_files.content(root + _WAITING) for root in (other_files.TOP, _NEW))
    return os.path.exists(_GENERATORS[0]) or now != then


def _nic_of(path: str) -> str:
    name = os.path.splitext(os.path.basename(path))[0]
    return name[len(_PREFIX) :] if name.startswith(_PREFIX) else ""


def _put(change: _Change) -> None:
    path = other_files.TOP + change.path
    if change.new is None:
        files.remove(path)
        try:
            for name in (_DROP_IN, _ADVERTISED):
                files.remove(os.path.join(path + ".d", name))
            os.rmdir(path + ".d")
        except OSError:
            pass  # there is none, or somebody else's is in it
    else:
        files.make_directory(os.path.dirname(path))
        os.rename(change.new, path)  # with the owner and mode that the generator gave it


def _rank_advertised(names: Sequence[str]) -> None:
    """Give the routes that are advertised on these NICs a metric: one more than their static ones'.

    netplan says it to networkd beside a DHCP client alone, and a static NIC hears advertisements too.
    """
    # A server with one NIC has none, and YAML takes 15 ms.
    some = "route-metric" in other_files.text_of(FILE)
    ours = other_files.our_definitions() if some else {}
    for name in names:
        drop_in = os.path.join(loaded_files.RUNTIME, _PREFIX + name + ".network.d", _ADVERTISED)
        _group, body = ours.get(name, ("", {}))
        metric = body.get("dhcp6-overrides", {}).get("route-metric") if not _families(body) else None
        text = "[IPv6AcceptRA]\nRouteMetric=%d\n" % (metric + 1) if metric else ""
        if text and files.read(drop_in) != text:
            files.replace(drop_in, text, sync=False)
        elif not text:
            files.remove(drop_in)


def _families(body: Dict[str, Any]) -> List[str]:
    """The DHCP clients of a definition."""
    return [family for family in ("dhcp4", "dhcp6") if body.get(family)]


def _wait_for_first(items: Sequence[Item], left: FrozenSet[str]) -> bool:
    """Have the boot wait for one NIC where the one that it used to wait for has left; True if systemd must hear of it.

    The NICs that are left are all "optional" in their file, which stays as it is.
    """
    first = first_of(items)
    if first is None or not first.metric or first.name in left:
        return False
    drop_in = os.path.join(loaded_files.RUNTIME, _PREFIX + first.name + ".network.d", _DROP_IN)
    files.replace(drop_in, "[Link]\nRequiredForOnline=yes\n", sync=False)
    if not glob.glob(other_files.TOP + "/run/systemd/*/" + _WAITER + ".d/10-netplan.conf"):
        return False
    files.replace(other_files.TOP + _OUR_WAITING, _WAIT.format(name=first.name), sync=False)
    return True
