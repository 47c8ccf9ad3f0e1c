# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Whatever happens in a scenario, the same is promised of it: said here once.

    with serving(guest, touches=[port], events=["added"]):
        guest.plug(port)
        assert_follows(guest, port)

Within the block a stream of datagrams leaves through a NIC that the scenario does not touch. After it, once the service
has ended: it was started for these events and no others, as often as said; it touched the NICs of these ports and no
others; every other NIC is as it was, in the kernel and byte for byte on disk, and the stream lost nothing; what changed
on disk is what the record says; and a second run has nothing to do.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set

from tests.lab import Container, Port
from tests.scenarios.seen import assert_nothing_to_do, configuration, files, ip, log_of, settled, starts
from tests.scenarios.stream import Stream

_EVENT = re.compile(r"event: reason=(\w+) ")


class Served(NamedTuple):
    """The runs of the block that changed something, as the store remembers them, oldest first; and the service's log."""

    records: List[Dict[str, Any]]
    log: List[str]


@contextlib.contextmanager
def serving(
    guest: Container,
    touches: Sequence[Port] = (),
    leaves: Sequence[Port] = (),
    events: Sequence[str] = (),
    starts_of_service: int = 1,
    streams: Optional[Sequence[Port]] = None,
    nothing_to_do: bool = True,
    settles_in: float = 15,
    fails: bool = False,
    by_hand: str = "operator",
) -> Iterator[Served]:
    """What the block has done to `touches` is done by the service for these `events`; none: `by_hand`, "operator" or "push".

    leaves: ports whose NICs go, at least for a moment, and may need nothing done: another takes the place, or it comes back.
    fails: the service says by its exit status that a NIC failed.
    streams: the ports whose NICs must lose nothing; else the first that is not touched. What was served is filled in at
    the end.
    """
    beside = [port for port in guest.plugged if port not in touches and port not in leaves]
    if streams is None:
        streams = [port for port in beside if any(s.network.version == 4 for s, _ in port.subnets())][:1]
    before = _Picture(guest, beside)
    running = [Stream(guest, port) for port in streams]
    served = Served([], [])
    try:
        yield served
        settled(guest, settles_in, fails)
        lost = [stream.lost() for stream in running]
    except BaseException:
        for stream in running:
            stream.close()
        raise
    after = _Picture(guest, beside)
    served.records[:] = after.history[len(before.history) :]
    served.log[:] = after.log[len(before.log) :]

    assert lost == [""] * len(lost)
    story = "\n".join(served.log)
    assert set(_EVENT.findall(story)) == set(events), story
    assert after.starts - before.starts <= starts_of_service, story
    assert bool(events) == (after.starts > before.starts), story
    by = {reason for record in served.records for reason in record["reasons"]}
    assert by <= (set(events) or {by_hand}), served.records
    touched = {touch["mac"] for record in served.records for touch in record["touches"]}
    assert touched - {port.mac for port in leaves} == {port.mac for port in touches}, served.records
    assert after.nics == before.nics
    assert after.configurations == before.configurations
    said = {c["file"] for r in served.records for c in r["changes"] if c["action"] in ("write", "remove")}
    # A file that was written and taken back was in neither picture.
    assert _changed(before.files, after.files) == {path for path in said if path in before.files or path in after.files}
    if nothing_to_do:
        assert_nothing_to_do(guest)


class _Picture:
    """A guest at a moment."""

    def __init__(self, guest: Container, beside: Sequence[Port]) -> None:
        self.history = history(guest)
        self.log = log_of(guest).splitlines()
        self.starts = starts(guest)
        self.files = files(guest)
        self.configurations = {port: configuration(guest, port) for port in beside}
        self.nics = {port: _nic(guest, port) for port in beside if guest.nic(port)}


def _changed(before: Dict[str, str], after: Dict[str, str]) -> Set[str]:
    """The files outside the store that differ."""
    both = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    ours = ("/var/lib/cloudinit-osnetd/", "/etc/systemd/network/.")  # a hidden one: the inode that networkd has loaded
    return {path for path in both if not path.startswith(ours)}


def _nic(guest: Container, port: Port) -> Any:
    """A NIC as the kernel has it, less what runs by itself: lifetimes, and a neighbour's advertisements of them."""
    name = guest.nic(port)
    (link,) = ip(guest, f"addr show dev '{name}'")
    addresses = sorted((a["local"], a["prefixlen"]) for a in link["addr_info"])
    routes = [
        sorted((r["dst"], r.get("gateway", ""), r.get("metric", 0)) for r in ip(guest, f"-{version} route show dev '{name}'"))
        for version in (4, 6)
    ]
    return name, link["ifindex"], link["mtu"], sorted(link["flags"]), addresses, routes


def history(guest: Container) -> List[Dict[str, Any]]:
    """The runs that changed something, as the store remembers them, oldest first."""
    lines = guest.run("cat /var/lib/cloudinit-osnetd/history*", check=False).stdout.splitlines()
    return [json.loads(line) for line in lines]
