# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The lab's network_data.json is Nova's, to the byte: compared with Nova's own serializer over random port sets."""

from __future__ import annotations

import ipaddress
import json
import random
import subprocess
import uuid
from collections import Counter
from pathlib import Path
from typing import Any, List, Optional, Tuple

from tests.lab import nova

PORT_SETS = 600
SEED = 20250601
VIF_TYPES = ("ovs", "bridge", "vhostuser", "hw_veb", "802.1qbg", "macvtap", "hostdev_physical", "binding_failed", None)


def as_json(vifs: List[nova.Vif]) -> List[Any]:
    return [{**vif._asdict(), "subnets": [subnet._asdict() for subnet in vif.subnets]} for vif in vifs]


def maybe(dice: random.Random, value: Any, chance: float = 0.5) -> Any:
    return value if dice.random() < chance else None


def random_subnet(dice: random.Random, version: int) -> nova.Subnet:
    if version == 4:
        network: Any = ipaddress.ip_network((dice.getrandbits(32), 32)).supernet(
            new_prefix=dice.choice([8, 16, 23, 24, 28, 30])
        )
    else:
        high = 0x20010DB8 << 96 | dice.getrandbits(64) << 32
        network = ipaddress.ip_network((high, 128)).supernet(new_prefix=dice.choice([48, 64, 64, 64, 112, 126]))

    def address() -> str:
        return str(network[dice.randrange(1, min(network.num_addresses, 2**20) - 1)])

    def route() -> Tuple[str, str]:
        wide = ipaddress.ip_network(address()).supernet(
            new_prefix=dice.choice([8, 12, 24, 32] if version == 4 else [32, 48, 64, 128])
        )
        return str(wide), address()

    mode: Optional[str] = None
    if version == 6:
        mode = dice.choice([None, None, "slaac", "dhcpv6-stateless", "dhcpv6-stateful"])
    return nova.Subnet(
        cidr=str(network),
        addresses=tuple({address(): None for _ in range(dice.choice([0, 1, 1, 1, 2]))}),
        gateway=maybe(dice, address(), 0.8),
        dns=tuple({address(): None for _ in range(dice.choice([0, 1, 2, 3]))}),
        routes=tuple({route(): None for _ in range(dice.choice([0, 0, 1, 3]))}),
        dhcp_server=maybe(dice, address(), 0.3),
        enable_dhcp=dice.random() < 0.3,
        ipv6_mode=mode,
    )


def random_port(dice: random.Random) -> nova.Vif:
    identity = str(uuid.UUID(int=dice.getrandbits(128), version=4))
    versions = dice.choice([[], [4], [4], [6], [4, 6], [6, 4], [4, 4], [4, 4, 6, 6], [6, 6]])
    return nova.Vif(
        id=identity,
        mac="fa:16:3e:" + ":".join(f"{dice.randrange(256):02x}" for _ in range(3)),
        network_id=str(uuid.UUID(int=dice.getrandbits(128), version=4)),
        devname=maybe(dice, f"tap{identity[:11]}", 0.9),
        type=dice.choice(VIF_TYPES),
        mtu=maybe(dice, dice.choice([1280, 1442, 1450, 1500, 8950]), 0.8),
        subnets=tuple(random_subnet(dice, version) for version in versions),
    )


def test_network_data_is_what_nova_makes(nova_python: Path) -> None:
    dice = random.Random(SEED)
    port_sets = [[random_port(dice) for _ in range(dice.choice([0, 1, 1, 2, 3, 5, 9]))] for _ in range(PORT_SETS)]
    oracle = subprocess.run(
        [str(nova_python), str(Path(__file__).with_name("oracle.py"))],
        input=json.dumps([as_json(ports) for ports in port_sets]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert oracle.returncode == 0, oracle.stderr
    answers = json.loads(oracle.stdout)
    kinds: "Counter[str]" = Counter()
    for ports, answer in zip(port_sets, answers, strict=True):
        # A server without ports: Nova's metadata service and config drive turn None into {}.
        expected = {} if answer is None else answer
        made = nova.network_data(ports)
        assert made == expected, f"for {ports}"
        assert json.dumps(made) == json.dumps(expected), "the order of the keys"
        kinds.update(network["type"] for network in expected.get("networks", []))
        kinds.update("link without MTU" for link in expected.get("links", []) if link["mtu"] is None)
    # The comparison means nothing for a kind that never came up.
    wanted = {"ipv4", "ipv4_dhcp", "ipv6", "ipv6_dhcp", "ipv6_slaac", "ipv6_dhcpv6-stateless", "ipv6_dhcpv6-stateful"}
    assert all(kinds[kind] > 30 for kind in wanted | {"link without MTU"}), kinds
