# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Runs in a Python that has Nova: reads port sets (JSON) from standard input, writes what Nova makes of each."""

import json
import sys

from nova.network import model
from nova.virt import netutils


def subnet(told):
    meta = {}
    if told["dhcp_server"]:
        meta["dhcp_server"] = told["dhcp_server"]
    if told["ipv6_mode"]:
        meta["ipv6_address_mode"] = told["ipv6_mode"]
    return model.Subnet(
        cidr=told["cidr"],
        gateway=model.IP(address=told["gateway"], type="gateway"),
        dns=[model.IP(address=address, type="dns") for address in told["dns"]],
        ips=[model.FixedIP(address=address) for address in told["addresses"]],
        routes=[
            model.Route(cidr=destination, gateway=model.IP(address=gateway, type="gateway"))
            for destination, gateway in told["routes"]
        ],
        enable_dhcp=told["enable_dhcp"],
        **meta,
    )


def vif(told):
    network = model.Network(id=told["network_id"], label="network", mtu=told["mtu"], injected=False)
    network["subnets"] = [subnet(one) for one in told["subnets"]]
    return model.VIF(id=told["id"], address=told["mac"], network=network, type=told["type"], devname=told["devname"])


json.dump(
    [netutils.get_network_metadata(model.NetworkInfo([vif(one) for one in ports])) for ports in json.load(sys.stdin)],
    sys.stdout,
)
