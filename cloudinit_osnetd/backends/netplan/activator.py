# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""netplan on systemd-networkd: a generator creates networkd's files below /run from netplan's.

`netplan generate` rewrites all of those files and `netplan apply` reconfigures every link. So the generator writes to a
directory of ours, and only the files that our change made different are put in place.
"""

import functools
import glob
import logging
import os
import shutil
from typing import Callable, Dict, FrozenSet, Mapping, Optional, Sequence

from ...core.desired import Item
from ...core.records import Dns, Touch
from ...system import files, paths
from ...system.command import CommandError, run
from ..base import Activator, first_of
from ..networkd import dns_over_dbus, links, netdevs
from . import generator, loaded_files, other_files, yaml_file, yaml_keys
from .other_files import FILE

LOG = logging.getLogger(__name__)
_FILES = netdevs.Files(paths.NETWORKD_RUNTIME_FILES, generator.PREFIX)
# Since 1.1 netplan names the NICs to wait for in a drop-in of the waiting unit; without one it does not wait.
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


class NetplanActivator(Activator):
    lag, drops_foreign, waits_for_unique = links.LAG, True, True
    own_directories = (paths.NETWORKD_RUNTIME_FILES + "/*.network.d", os.path.dirname(_OUR_WAITING))

    def unfit(self) -> str:
        """Only networkd is supported. netplan's files may assign all NICs to NetworkManager, as on a desktop."""
        chosen, by = other_files.chosen_renderer()
        return "" if chosen == "networkd" else "netplan's renderer is %s (%s)" % (chosen, by)

    def boot(
        self, items: Sequence[Item], left: FrozenSet[str] = frozenset(), changed: FrozenSet[str] = frozenset()
    ) -> None:
        """Updates the generated files: systemd ran the generator before the early flow."""
        try:
            stale = bool(generator.regenerate()) and _waits_for_others()
        except (CommandError, OSError) as exc:
            LOG.error("netplan's generator failed: %s", exc)
            stale = False
        shutil.rmtree(paths.GENERATED, ignore_errors=True)
        try:
            _rank_advertised([item.name for item in items if item.name not in left])
            waits = _wait_for_first(items, left)
            if stale or waits:
                # The unit that waits for the network names the NICs, and systemd has read it already.
                run(["systemctl", "daemon-reload"])
            if waits:
                # netplan had no NIC to wait for, so nothing may have started the unit. If masked, nothing waits.
                run(["systemctl", "start", "--no-block", _WAITER])
        except (CommandError, OSError) as exc:
            LOG.warning("the boot may not wait for the right NIC: %s", exc)
        loaded_files.note()

    def edits(self, touches: Sequence[Touch], coming: Mapping[str, str]) -> Dict[str, Callable[[], bool]]:
        """Applies a difference in DNS only over D-Bus; networkd's file below /run is updated at the next boot."""
        changed = {touch.name for touch in touches if touch.action == "reconfigure"}.intersection(coming)
        try:
            ours = yaml_file.split(files.read(FILE) or "") if changed else {}
        except yaml_file.NotNetplan:  # reported when it is rendered
            ours = {}
        found: Dict[str, Callable[[], bool]] = {}
        for name in changed.intersection(ours):
            differs = yaml_file.dns_difference(ours[name], coming[name])
            if differs is not None:
                found[name] = functools.partial(dns_over_dbus.dns, name, *differs)
        return found

    def before(self, touches: Sequence[Touch]) -> None:
        netdevs.note(touches, _FILES)
        generator.keep_old()

    def after(self, touches: Sequence[Touch], changed: FrozenSet[str]) -> Dict[str, str]:
        """Puts in place what our change made different, and reloads once."""
        problems: Dict[str, str] = {}
        try:
            generator.generate(generator.NEW)
            differ = generator.to_change({touch.name for touch in touches})
            names = frozenset(os.path.basename(change.path) for change in differ)
            with loaded_files.held(names):
                for change in differ:
                    generator.put(change)
                _rank_advertised([touch.name for touch in touches if touch.action != "down"])
                if differ or any(touch.action == "kick" for touch in touches):
                    problems = netdevs.reload(touches, _FILES, lambda: run(["networkctl", "reload"]))
        except (CommandError, OSError) as exc:
            return {touch.name: str(exc) for touch in touches}
        finally:
            shutil.rmtree(paths.GENERATED, ignore_errors=True)
        return dict(problems, **netdevs.after_reload(touches, _FILES))

    def dns(self, name: str, ifindex: int) -> Optional[Dns]:
        return links.dns(ifindex)


def _waits_for_others() -> bool:
    """False if the generator makes the boot wait for the same NICs as before; up to 1.1 it can be compared."""
    then, now = (loaded_files.content(root + _WAITING) for root in (other_files.TOP, generator.NEW))
    return os.path.exists(paths.NETPLAN_GENERATORS[0]) or now != then


def _rank_advertised(names: Sequence[str]) -> None:
    """Sets the metric of routes that are advertised on these NICs: one more than that of their static routes.

    netplan configures it in networkd only together with a DHCP client, but a static NIC receives advertisements too.
    """
    # A server with one NIC has none, and importing YAML takes 15 ms.
    some = "route-metric" in other_files.text_of(FILE)
    ours = other_files.our_definitions() if some else {}
    for name in names:
        drop_in = _drop_in(name, generator.ADVERTISED)
        _group, body = ours.get(name, ("", {}))
        metric = body.get("dhcp6-overrides", {}).get("route-metric") if not yaml_keys.dhcp_clients(body) else None
        text = "[IPv6AcceptRA]\nRouteMetric=%d\n" % (metric + 1) if metric else ""
        if text and files.read(drop_in) != text:
            files.replace(drop_in, text, sync=False)
        elif not text:
            files.remove(drop_in)


def _drop_in(name: str, file: str) -> str:
    return os.path.join(paths.NETWORKD_RUNTIME_FILES, generator.PREFIX + name + ".network.d", file)


def _wait_for_first(items: Sequence[Item], left: FrozenSet[str]) -> bool:
    """Makes the boot wait for another NIC if the usual one is gone. Returns True if systemd must reload its units.

    The remaining NICs are all "optional" in their file, which is not changed.
    """
    first = first_of(items)
    if first is None or not first.metric or first.name in left:
        return False
    drop_in = _drop_in(first.name, generator.DROP_IN)
    files.replace(drop_in, "[Link]\nRequiredForOnline=yes\n", sync=False)
    if not glob.glob(other_files.TOP + "/run/systemd/*/" + _WAITER + ".d/10-netplan.conf"):
        return False
    files.replace(other_files.TOP + _OUR_WAITING, _WAIT.format(name=first.name), sync=False)
    return True
