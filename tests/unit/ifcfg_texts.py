# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""ifcfg files as cloud-init writes them, for the tests of their format and of what reads them."""

from cloudinit_osnetd.backends.ifcfg import ifcfg_file
from cloudinit_osnetd.core.desired import Item
from cloudinit_osnetd.core.records import Part

from .build import A, entry, static

HEAD = "# Created by cloud-init automatically, do not edit.\n#\n"
# As cloud-init 25.1.4 writes it.
STATIC = (
    HEAD
    + "BOOTPROTO=none\nDEFROUTE=yes\nDEVICE=ens3\nDNS1=10.0.0.2\nGATEWAY=10.0.0.1\nHWADDR=fa:16:3e:00:00:01\nIPADDR=10.0.0.5\nMTU=1450\nNETMASK=255.255.255.0\nONBOOT=yes\nTYPE=Ethernet\nUSERCTL=no\n"
)
LEASED = HEAD + "BOOTPROTO=dhcp\nDEVICE=ens3\nHWADDR=fa:16:3e:00:00:01\nONBOOT=yes\nTYPE=Ethernet\nUSERCTL=no\n"
DEFAULT = {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}
SIX = static("2001:db8::5", "64", routes=[{"network": "::", "netmask": "::", "gateway": "2001:db8::1"}])
SLAAC = {"id": "n", "link": "tap1", "type": "ipv6_slaac"}
# md5 of the path: the UUID of "System eth0" on every server with this file.
ETH0 = "5fb06bd0-0bb0-7ffb-45f1-d6edd65f3e03"


def item(*networks, metric=0, **fields):
    return Item(A + "/phy", entry(*networks, **fields), "ens3", (), metric)


def own(text=STATIC):
    return Part(ifcfg_file.path_of("ens3"), "", "ens3", text)


def completed(backend, one, *more):
    parts = backend.completed([own(), *more], [one])
    names = {part.path.rpartition("/")[2]: part.text for part in parts}
    return {name: text for name, text in names.items() if name.startswith("route")}
