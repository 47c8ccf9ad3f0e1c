# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`unshare -n python -m tests.unit.churn`: snapshots of a kernel in which links come and go all the time.

Prints how many dumps were interrupted, and how many snapshots lacked a link that was there throughout.
"""

import subprocess
import threading
import time

from cloudinit_osnetd.kernel import netlink

PAIRS, ENOUGH, SECONDS = 40, 5, 20.0
counted = {"interrupted": 0, "lacking": 0}
read_answer = netlink._answer


def ip(*lines):
    subprocess.run(["ip", "-batch", "-"], input="".join(line + "\n" for line in lines).encode(), check=False)


def answer(*args):
    seen = 0
    for flags, body in read_answer(*args):
        seen |= flags
        yield flags, body
    counted["interrupted"] += bool(seen & netlink._NLM_F_DUMP_INTR)


def churn(over):
    while not over.is_set():
        ip(*["link add x type veth peer name y", "link del x"] * 20)


if __name__ == "__main__":
    netlink._answer = answer
    ip(*["link add a%d type veth peer name b%d" % (n, n) for n in range(PAIRS)])
    there = {name + str(n) for name in "ab" for n in range(PAIRS)}
    over = threading.Event()
    thread = threading.Thread(target=churn, args=(over,))
    thread.start()
    deadline = time.monotonic() + SECONDS
    while counted["interrupted"] < ENOUGH and time.monotonic() < deadline:
        counted["lacking"] += not there <= {nic.name for nic in netlink.snapshot().nics}
    over.set()
    thread.join()
    print(counted["interrupted"], counted["lacking"])
