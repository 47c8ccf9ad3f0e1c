# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A stream of numbered datagrams from a guest, a thousand a second, that shows every one that is lost.

A hundred a second from a virtual machine, which may be emulated.
"""

from __future__ import annotations

import socket
import struct
import threading
from typing import List, Optional, Set, Tuple, Union

from tests.lab import VM, Container, Port, netns

# A number is used up whether or not its datagram could be sent: a NIC without its address or route is a loss as well.
_SENDER = """
import signal, socket, struct, sys, time
address, nic, target, port, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
rate = int(sys.argv[6])
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, nic.encode())
out.bind((address, 0))
on = [True]
signal.signal(signal.SIGTERM, lambda *_: on.clear())
began, number = time.monotonic(), 0
while on:
    while number < (time.monotonic() - began) * rate:
        try:
            out.sendto(struct.pack("!Q", number), (target, port))
        except OSError as error:
            print(number, error, flush=True)
        number += 1
    time.sleep(1 / rate)
with open(count, "w") as file:
    file.write(str(number))
"""
_count = 0


class Stream:
    """Runs from its making to `lost()`: out of the guest's NIC of a port, to the cloud's end of its network.

    address: from which, else the port's first fixed IP.
    """

    def __init__(self, guest: Union[Container, VM], port: Port, address: Optional[str] = None) -> None:
        global _count
        _count += 1
        self._guest = guest
        self._unit = f"lab-stream{_count}"
        self._seen: Set[int] = set()
        subnet, addresses = next((s, ips) for s, ips in port.subnets() if s.network.version == 4)
        self._socket = netns.within(guest.cloud.namespace, lambda: _listening(subnet.host_address))
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()
        rate = "100" if isinstance(guest, VM) else "1000"
        guest.put(_SENDER.encode(), f"/root/{self._unit}.py")  # its own: another one may be just starting
        target = self._socket.getsockname()
        words = [address or addresses[0], str(guest.nic(port)), target[0], str(target[1]), f"/run/{self._unit}", rate]
        guest.run(f"systemd-run --quiet --collect --unit={self._unit} python3 /root/{self._unit}.py {' '.join(words)}")

    def end(self) -> Tuple[int, List[int]]:
        """End the stream; how many datagrams were sent, and the numbers of those that did not arrive."""
        self._guest.run(f"systemctl stop {self._unit}")
        sent = int(self._guest.run(f"cat /run/{self._unit}").stdout)
        self.close()
        return sent, sorted(set(range(sent)) - self._seen)

    def lost(self) -> str:
        """End the stream; what was lost of it, in words, empty where nothing was."""
        sent, missing = self.end()
        if not missing and sent:
            return ""
        why = self._guest.run(f"journalctl -b --no-pager -o cat -u {self._unit} | head -n 3").stdout
        return f"{len(missing)} of {sent} datagrams, from number {missing[:1]} on: {why}"

    def close(self) -> None:
        """Stop listening, once all that has arrived is taken."""
        with self._socket, netns.within(self._guest.cloud.namespace, _datagram_socket) as other:
            other.sendto(b"", self._socket.getsockname())
            self._thread.join()

    def _receive(self) -> None:
        while True:
            datagram = self._socket.recv(64)
            if not datagram:
                return
            self._seen.add(struct.unpack("!Q", datagram)[0])


def _datagram_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def _listening(address: str) -> socket.socket:
    listening = _datagram_socket()
    # This process may have other things to do for a while: the kernel keeps minutes of the stream.
    listening.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    listening.bind((address, 0))
    return listening
