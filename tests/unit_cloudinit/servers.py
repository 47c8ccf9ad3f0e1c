# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Servers of random ports, as Nova tells of them (tests/lab/nova.py, which tests/nova compares with Nova's own serializer)."""

import ipaddress
import random

from tests.lab import nova

MACS = ("fa:16:3e:00:00:01", "fa:16:3e:00:00:02", "fa:16:3e:00:00:03")


def _network(dice, version):
    if version == 4:
        return ipaddress.ip_network((0x0A000000 | dice.getrandbits(24), 32)).supernet(new_prefix=dice.choice([16, 20, 24, 26, 28]))
    return ipaddress.ip_network((0x20010DB8 << 96 | dice.getrandbits(64) << 32, 128)).supernet(new_prefix=dice.choice([48, 64, 64, 112]))


def _route(dice, version, via):
    there = 0x40000000 | dice.getrandbits(29) if version == 4 else 0x20010DB9 << 96 | dice.getrandbits(96)
    length = dice.choice([8, 12, 16, 24, 32] if version == 4 else [33, 48, 64, 128])
    return str(ipaddress.ip_network(str(ipaddress.ip_address(there))).supernet(new_prefix=length)), via


def _subnet(dice, version):
    network = _network(dice, version)

    def address():
        return str(network[dice.randrange(2, min(network.num_addresses, 2**20) - 1)])

    return nova.Subnet(
        cidr=str(network),
        addresses=(address(),),
        gateway=dice.choice([None, str(network[1]), address()]),
        dns=tuple(dict.fromkeys(address() for _ in range(dice.randrange(4)))),
        routes=tuple(dict.fromkeys(_route(dice, version, address()) for _ in range(dice.randrange(5)))),
        dhcp_server=dice.choice([None, None, None, address()]),
        ipv6_mode=dice.choice([None, None, "slaac", "dhcpv6-stateless", "dhcpv6-stateful"]) if version == 6 else None,
    )


def _port(dice, number):
    identity = "%08x-0000-4000-8000-%012x" % (dice.getrandbits(32), number)
    return nova.Vif(
        id=identity,
        mac=MACS[number],
        network_id="network",
        devname="tap" + identity[:11],
        type=dice.choice(["ovs", "bridge", "macvtap", None]),
        mtu=dice.choice([None, 1280, 1442, 1450, 1500, 8950]),
        subnets=tuple(_subnet(dice, version) for version in dice.choice([[4], [4], [6], [4, 6], [6, 4]])),
    )


def document(seed):
    """The network_data of a server of one to three ports; the same one for the same seed."""
    dice = random.Random(seed)
    return nova.network_data([_port(dice, number) for number in range(dice.choice([1, 1, 2, 3]))])
