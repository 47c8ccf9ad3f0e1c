# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What the cloud's API says of a server's ports, by openstacksdk, which is imported only here.

Neutron's answers are taken as they are, without the SDK's objects, whose attributes differ from version to version.
Clouds and passwords are found as `openstack` finds them: clouds.yaml, or OS_... in the environment.
"""

import json
import re
import uuid
from typing import Any, Dict, Iterator, List, NamedTuple, Set  # noqa: F401 - in a comment
from urllib.parse import parse_qsl, urlsplit

from .errors import NoDocument
from .server_document import Cloud, document

_DHCP_AGENT = "network:dhcp"  # the owner of the ports at which Nova sees that a subnet has a DHCP server


class Server(NamedTuple):
    """A server of the cloud, and its whole network_data.json. `id` is also the UUID of its domain in libvirt."""

    id: str
    document: bytes


def server(cloud: str, name: str, static: bool) -> Server:
    """Returns the server of that id or name.

    cloud: a name in clouds.yaml, or empty for the environment's. Raises NoDocument.
    """
    try:
        import openstack
    except ImportError as exc:
        text = "openstacksdk is not installed on this host (package python3-openstacksdk): %s"
        raise NoDocument(text % exc) from exc
    try:
        connection = openstack.connect(**({"cloud": cloud} if cloud else {}))
        server_id = _id(connection, name)
        made = document(_ask(connection.network, server_id), static)
    except NoDocument:
        raise
    except (KeyError, TypeError, ValueError) as exc:
        raise NoDocument("server %s: Neutron's answer is not understood: %r" % (name, exc)) from exc
    except Exception as exc:  # noqa: BLE001 - of openstacksdk, keystoneauth and requests, each with its own family
        raise NoDocument("server %s: the cloud's API: %s" % (name, exc)) from exc
    if not made["links"]:
        raise NoDocument("server %s has no port that this user may see" % name)
    return Server(server_id, json.dumps(made, indent=1).encode("ascii"))


def _id(connection: Any, name: str) -> str:
    try:
        return str(uuid.UUID(name))
    except ValueError:
        pass
    query = {"name": "^%s$" % re.escape(name)}
    answer = connection.compute.get("/servers", params=dict(query, all_tenants="1"))
    if answer.status_code == 403:  # for administrators only
        answer = connection.compute.get("/servers", params=query)
    found = [one["id"] for one in _body(answer)["servers"] if one["name"] == name]
    if len(found) != 1:
        raise NoDocument(
            "no server is named %s" % name if not found else "%s names %d servers: %s" % (name, len(found), found)
        )
    return str(found[0])


def _ask(neutron: Any, server_id: str) -> Cloud:
    ports = list(_all(neutron, "ports", device_id=server_id))
    # The order in which they were attached is Nova's secret; that in which they were made is near it.
    ports.sort(key=lambda port: (port.get("created_at") or "", port["id"]))
    network_ids = sorted({port["network_id"] for port in ports})
    networks = {one["id"]: one for one in _some(neutron, "networks", "id", network_ids)}
    subnets = {one["id"]: one for one in _some(neutron, "subnets", "network_id", network_ids)}
    served = set()  # type: Set[str]
    for port in _some(neutron, "ports", "network_id", network_ids, device_owner=_DHCP_AGENT):
        served.update(fixed["subnet_id"] for fixed in port["fixed_ips"])
    enabled = {one["id"] for one in subnets.values() if one["enable_dhcp"]}
    return Cloud(ports, networks, subnets, frozenset(served & enabled))


def _some(neutron: Any, kind: str, key: str, values: List[str], **filters: Any) -> Iterator[Dict[str, Any]]:
    """One question for each value: all in one would make an address that is too long for some proxies."""
    for value in values:
        yield from _all(neutron, kind, **dict(filters, **{key: value}))


def _all(neutron: Any, kind: str, **filters: Any) -> Iterator[Dict[str, Any]]:
    """Every object of a kind that the filters let through, page after page where Neutron cuts its answers."""
    query = filters  # type: Any
    while query:
        body = _body(neutron.get("/" + kind, params=query))
        yield from body[kind]
        following = [link["href"] for link in body.get(kind + "_links", ()) if link["rel"] == "next"]
        query = parse_qsl(urlsplit(following[0]).query) if following else None


def _body(answer: Any) -> Any:
    if answer.status_code != 200:
        raise ValueError("HTTP status %d: %.200s" % (answer.status_code, answer.text))
    return answer.json()
