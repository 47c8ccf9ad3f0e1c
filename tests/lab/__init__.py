# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The lab: a simulated OpenStack with real guests in it. docs/lab.md tells a person how to use it.

with Cloud() as cloud:
    network = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1")
    server = cloud.server("web")
    server.create_port(network)
    with Container(cloud, server, suite="trixie", backend="networkd") as guest:
        guest.boot()
        guest.plug(server.create_port(network))
"""

from tests.lab import foreign, roots
from tests.lab.call import LabError
from tests.lab.cloud import Cloud
from tests.lab.container import Container
from tests.lab.ports import Network, Port, Subnet
from tests.lab.server import Server
from tests.lab.vm import VM

__all__ = ["VM", "Cloud", "Container", "LabError", "Network", "Port", "Server", "Subnet", "foreign", "roots"]
