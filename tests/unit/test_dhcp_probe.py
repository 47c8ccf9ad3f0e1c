# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The DISCOVER, and which packet answers it. Whether a server does is in tests/scenarios/test_networkmanager.py."""

import struct

import pytest

from cloudinit_osnetd.kernel import dhcp_probe

MAC, IDENT = bytes.fromhex("fa163e000001"), b"\1\2\3\4"
SENT = dhcp_probe.discover(MAC, IDENT)


def test_the_packet_is_one_that_a_server_reads():
    words = struct.unpack("!10H", SENT[:20])
    total = sum(words)
    assert ((total & 0xFFFF) + (total >> 16)) & 0xFFFF == 0xFFFF, "the header's checksum"
    assert struct.unpack_from("!H", SENT, 2)[0] == len(SENT)
    assert SENT[12:20] == b"\0\0\0\0\xff\xff\xff\xff"
    assert struct.unpack_from("!HHH", SENT, 20) == (68, 67, len(SENT) - 20)
    body = SENT[28:]
    assert (body[:4], body[4:8], body[28:34]) == (b"\1\1\6\0", IDENT, MAC)
    assert body[236:243] == b"\x63\x82\x53\x63\x35\x01\x01"
    assert len(body) >= 300, "RFC 1542, 2.1: the least that a relay takes"


def reply(kind=2, ident=IDENT, port=68, protocol=17, options=0):
    head = bytearray(SENT[:20]) + b"\1" * options
    head[0] = 0x45 + options // 4
    head[9] = protocol
    body = bytearray(SENT[28:])
    body[0], body[4:8] = kind, ident
    return bytes(head) + struct.pack("!HHHH", 67, port, 8 + len(body), 0) + bytes(body)


@pytest.mark.parametrize(
    ("packet", "answers"),
    [
        (reply(), True),
        (reply(options=4), True),
        (reply(ident=b"abcd"), False),
        (reply(kind=1), False),
        (reply(port=67), False),
        (reply(protocol=6), False),
        (reply()[:200], False),
        (SENT, False),
        (b"", False),
    ],
)
def test_what_answers(packet, answers):
    assert dhcp_probe.is_offer(packet, IDENT) == answers
