# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What each replaced function of cloud-init earns when NICs are rendered: `python -m bench.replaced [SUITE...]`, as root.

A process that imported compat is forked for each measurement, so nothing is cached but what a run has at that point. The CPU
time of converting and rendering n NICs is taken, in turns, with both functions replaced, with one left out, and with none.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List, Tuple

SUITES = {"bookworm": "eni", "trixie": "networkd"}
COUNTS = (1, 8, 28)
TIMES = 15
INSIDE = "--inside"


def main(argv: List[str]) -> int:
    if argv[:1] == [INSIDE]:
        return _measure(argv[1])
    from tests import in_root

    for suite in argv or SUITES:
        print(suite, flush=True)
        # Alone in its network namespace, so the NICs that are made there are all that there are.
        code = in_root.call(suite, ["python3", "-m", "bench.replaced", INSIDE, SUITES[suite]]).returncode
        if code != 0:
            return code
    return 0


def _measure(renderer: str) -> int:
    from cloudinit_osnetd.system import lazy_imports

    lazy_imports.in_our_process()
    from cloudinit import net
    from cloudinit.net import network_state

    own = net.get_ib_hwaddrs_by_interface, network_state.NetworkStateInterpreter.dump_network_state
    from cloudinit_osnetd.cloud_init import compat

    ours = net.get_ib_hwaddrs_by_interface, network_state.NetworkStateInterpreter.dump_network_state
    if own[0] is ours[0] or own[1] is ours[1]:
        print("compat replaced nothing: cloud-init was imported before this process was declared ours", file=sys.stderr)
        return 1

    def replaced(infiniband: bool, dump: bool) -> Callable[[], None]:
        def put() -> None:
            net.get_ib_hwaddrs_by_interface = (own, ours)[infiniband][0]
            network_state.NetworkStateInterpreter.dump_network_state = (own, ours)[dump][1]

        return put

    variants = {
        "both replaced": replaced(True, True),
        "InfiniBand as cloud-init has it": replaced(False, True),
        "dump as cloud-init has it": replaced(True, False),
        "none replaced": replaced(False, False),
    }
    print(f"{'NICs':>5} {'what':<32} CPU ms, median (least-most) of {TIMES}")
    there = 0
    for count in COUNTS:
        while there < count:
            there += 1
            subprocess.run(["ip", "link", "add", f"ens{there}", "address", _mac(there), "type", "veth"], check=True)
        spent: Dict[str, List[float]] = {name: [] for name in variants}
        for _ in range(TIMES):
            for name, put in variants.items():
                spent[name].append(_in_a_fork(put, lambda: _render(compat, renderer, count)))
        for name, values in spent.items():
            print(f"{count:>5} {name:<32} {statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})", flush=True)
    return 0


def _mac(number: int) -> str:
    return f"fa:16:3e:00:00:{number:02x}"


def _document(number: int) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """A port with an address, as Nova tells it, and the NIC that it is."""
    link = {"id": "tap", "type": "ovs", "ethernet_mac_address": _mac(number), "mtu": 1442}
    network = {
        "id": "network0", "link": "tap", "type": "ipv4", "ip_address": f"192.0.2.{number}", "netmask": "255.255.255.0",
        "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.0.2.254"}],
    }  # fmt: skip
    return {"links": [link], "networks": [network], "services": []}, {_mac(number): f"ens{number}"}


def _render(compat: Any, renderer: str, count: int) -> None:
    """As a run does: NIC by NIC, each into a tree of its own."""
    from cloudinit_osnetd.core.records import Renderer

    with tempfile.TemporaryDirectory(dir="/run") as scratch:
        for number in range(1, count + 1):
            tree = os.path.join(scratch, str(number))
            os.makedirs(tree)
            using = Renderer(renderer, {"netrules_path": None, "postcmds": False, "eni_path": "etc/network/interfaces"})
            compat.render(compat.convert(*_document(number)), tree, using)


def _in_a_fork(prepare: Callable[[], None], work: Callable[[], None]) -> float:
    """CPU milliseconds of `work` in a child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            prepare()
            before = time.process_time()
            work()
            os.write(writer, b"%.3f" % ((time.process_time() - before) * 1000))
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _pid, status = os.waitpid(child, 0)
    if status != 0:
        raise RuntimeError("rendering failed")
    return float(said)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
