# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What joins a virtual NIC to a bridge of the cloud: a tap, or, where /dev/net/tun is somebody else's, a veth and socat.

The second way is for a lab without root. socat carries whole frames between one end of the veth and a datagram socket of
QEMU; it is slower, has no offloads, and asks for QEMU 7.2.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from tests.lab import netns, qemu, run
from tests.lab.call import LabError

TUN = Path("/dev/net/tun")
LONGEST_FRAME = 1 << 16


def kind() -> str:
    """`tap` or `dgram`, as QEMU calls them. OSNETD_WIRE in the environment has the last word."""
    return os.environ.get("OSNETD_WIRE") or ("tap" if os.access(TUN, os.R_OK | os.W_OK) else "dgram")


def add(namespace: str, nic: qemu.Nic, bridge: str) -> None:
    """Make the host's side of a NIC and put it into its bridge."""
    if nic.wire == "tap":
        netns.ip(namespace, f"tuntap add {nic.host} mode tap", f"link set {nic.host} master {bridge} up")
        return
    far = _far_end(nic)
    netns.ip(
        namespace,
        f"link add {nic.host} type veth peer name {far}",
        f"link set {far} up",
        f"link set {nic.host} master {bridge} up",
    )
    # A packet socket gets what the kernel would have left to the card: sums that are still to be made, many segments in one.
    for end in (nic.host, far):
        netns.output(namespace, ["ethtool", "-K", end, "tx", "off"])


def remove(namespace: str, nic: qemu.Nic) -> None:
    with contextlib.suppress(LabError):  # gone already, with the cloud's namespace
        netns.ip(namespace, f"link del {nic.host}")


def carry(of_run: run.Run, namespace: str, nic: qemu.Nic, folder: Path) -> subprocess.Popen[bytes] | None:
    """Begin to carry frames, once QEMU has its end; None where a tap does that by itself. It ends with QEMU's end."""
    if nic.wire == "tap":
        return None
    ends = [f"INTERFACE:{_far_end(nic)}", f"UNIX-SENDTO:{nic.qemu_socket},bind={nic.host_socket},unlink-early"]
    words = ["setpriv", "--pdeathsig", "KILL", *netns.enter(namespace), "socat", "-b", str(LONGEST_FRAME), *ends]
    with (folder / "socat.log").open("ab") as log:
        return of_run.spawn(words, cwd=folder, stdout=log, stderr=subprocess.STDOUT)


def _far_end(nic: qemu.Nic) -> str:
    return "far" + nic.host[3:]
