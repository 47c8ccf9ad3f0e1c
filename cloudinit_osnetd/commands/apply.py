# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`apply`: takes a network_data.json that a host or an operator hands over, and configures the NICs by it."""

import os
import time
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from ..cloud_init import instance
from ..cloud_init.eligibility import NotManaged
from ..core.network_data import NetworkData
from ..core.pushed_document import Refused
from ..kernel import netlink
from ..planning.build_plan import forgotten
from ..run import recheck_timer
from ..run.reconcile import run
from ..run.record import Push
from ..state import run_lock, store
from ..system import paths
from ..system.command import CommandError
from ..system.command import run as run_command
from .document import EXIT_BUSY, EXIT_REFUSED, Unfinished, parsed, read, tell_refused, tell_unfinished
from .output import complain, print_json, width, wrapped
from .reconcile import announce, as_json, keep, note
from .report import print_decided, print_next

if TYPE_CHECKING:
    import argparse

_LOOK_SECONDS = 0.2
_STARTING = ("cloudinit-osnetd-early.service", "systemd-networkd.service", "NetworkManager.service")
EXIT_NIC_FAILED, EXIT_ROLLED_BACK, EXIT_NOT_MANAGED = 1, 4, 5


def _await_cloud_init(until: float) -> None:
    """Waits for cloud-init's local stage, which finds the instance: a host may push while its guest boots."""
    while not (os.path.lexists(paths.CLOUD_RAN) and instance.instance_id()):
        if time.monotonic() > until or os.path.exists(paths.CLOUD_DISABLED) or instance.is_off():
            return  # and run() says what is missing
        time.sleep(_LOOK_SECONDS)


def _await_network_service(until: float) -> None:
    """Waits until no service that takes files while it starts is about to: a host may push while its guest boots.

    Before networkd or NetworkManager has started each NIC would count as down. ifupdown's service is not waited for: it
    ends when its last lease has come, or has not.
    """
    while not os.path.lexists(paths.CLOUD_DONE) and time.monotonic() < until:
        try:
            jobs = run_command(["systemctl", "show", "--property=Job", *_STARTING], timeout=10.0).split()
        except CommandError:
            return  # no systemd
        if not any(job for job in jobs if job not in ("Job=", "Job=0")):
            return
        time.sleep(_LOOK_SECONDS)


def _absent(data: NetworkData) -> List[str]:
    """Returns the MACs of the document that no NIC has: it may be another server's document."""
    there = netlink.snapshot().by_mac()
    return sorted({entry.mac for entry in data.entries.values() if entry.kind == "phy"}.difference(there))


def _kept() -> List[str]:
    """Returns the names of the NICs that had nothing but what was pushed: they stay as they are."""
    state, nics = store.load(instance.instance_id()), netlink.snapshot().by_mac()
    return sorted(nics[key.partition("/")[0]].name for key in forgotten(state, nics))


def _status(report: Dict[str, Any], data: Optional[NetworkData]) -> int:
    """Returns the exit status; a NIC of the document that was left alone, because its file was edited, is not done."""
    if any(touch["reason"] == "rolled back" for touch in report["touches"]):
        return EXIT_ROLLED_BACK
    left = {drift["key"] for drift in report["drifted"]}.intersection(data.entries if data is not None else ())
    return EXIT_NIC_FAILED if report["problems"] or left else 0


def _tell(args: "argparse.Namespace", report: Dict[str, Any], text: str = "") -> None:
    if args.json:
        print_json(report)
    elif text:
        complain(text)
    else:
        print_decided(report)
        for mac in report.get("absent", ()):
            text = "absent: %s: no NIC has this MAC; it is configured when it comes" % mac
            print("\n".join(wrapped(text, width(), indent="    ")))
        for name in report.get("kept", ()):
            text = "kept: %s: nothing else says what it should have; it stays as it is" % name
            print("\n".join(wrapped(text, width(), indent="    ")))
        print_next(report)
        if "confirm_by" in report:
            left = max(0.0, report["confirm_by"] - time.time())
            text = "not confirmed: it is taken back in %d s unless `cloudinit-osnetd confirm` comes before" % left
            print("\n".join(wrapped(text, width(), indent="    ")))


def main(args: "argparse.Namespace") -> int:
    """Ends with the exit status that the manual page lists; nothing was changed where it is 3, 5 or 6."""
    began = time.monotonic()
    try:
        data = None if args.forget else parsed(read(args))
        _await_cloud_init(began + args.timeout)
        _await_network_service(began + args.timeout)
        left = max(0.0, began + args.timeout - time.monotonic())
        report = as_json(run(["push"], patient=False, note=note, keep=keep, push=Push(data, left, args.confirm_within)))
    except Refused as exc:
        tell_refused(args, exc)
        return EXIT_REFUSED
    except Unfinished as exc:
        tell_unfinished(args, exc)
        return EXIT_BUSY
    except NotManaged as exc:
        _tell(args, {"hands_off": str(exc)}, "not managed, nothing was changed: %s" % exc)
        return EXIT_NOT_MANAGED
    except recheck_timer.NoTimer as exc:
        tell_refused(args, Refused([str(exc)]))
        return EXIT_REFUSED
    except run_lock.Busy as exc:
        _tell(args, {"busy": str(exc)}, "nothing was changed: %s" % exc)
        return EXIT_BUSY
    if data is not None:
        report["absent"] = _absent(data)
    else:
        report["kept"] = _kept()
    _tell(args, report)
    announce(report)
    return _status(report, data)
