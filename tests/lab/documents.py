# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a server is told about itself, as files: the tree behind the metadata service and on the config drive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

# nova/api/metadata/base.py, OPENSTACK_VERSIONS. network_data.json came with 2015-10-15, vendor_data2.json with 2016-10-06.
VERSIONS = (
    "2012-08-10 2013-04-04 2013-10-17 2015-10-15 2016-06-30 2016-10-06 2017-02-22 2018-08-27 2020-10-14 2025-04-04 latest"
).split()

Files = Dict[str, bytes]


def openstack(uuid: str, name: str, network_data: Mapping[str, Any], user_data: Optional[str]) -> Files:
    """The openstack/ tree."""
    meta_data = {
        "uuid": uuid,
        "name": name,
        "hostname": name,
        "availability_zone": "nova",
        "launch_index": 0,
        "project_id": "0123456789abcdef0123456789abcdef",
        "devices": [],
        "dedicated_cpus": [],
    }
    files: Files = {}
    for version in VERSIONS:
        files[f"openstack/{version}/meta_data.json"] = _json(meta_data)
        if user_data is not None:
            files[f"openstack/{version}/user_data"] = user_data.encode()
        if version >= "2013-10-17":
            files[f"openstack/{version}/vendor_data.json"] = _json({})
        if version >= "2015-10-15":
            files[f"openstack/{version}/network_data.json"] = _json(network_data)
        if version >= "2016-10-06":
            files[f"openstack/{version}/vendor_data2.json"] = _json({})
    return files


def ec2(uuid: str, name: str, local_ipv4: str, user_data: Optional[str]) -> Files:
    """The EC2 tree of the metadata service: where it is missing, cloud-init's OpenStack datasource retries for 5 s."""
    items = {
        "ami-id": "ami-00000001",
        "ami-launch-index": "0",
        "hostname": name,
        "instance-id": f"i-{uuid[:8]}",
        "instance-type": "m1.small",
        "local-hostname": name,
        "local-ipv4": local_ipv4,
        "placement/availability-zone": "nova",
        "reservation-id": "r-00000001",
    }
    files: Files = {}
    for version in ("2009-04-04", "latest"):
        files.update({f"{version}/meta-data/{key}": value.encode() for key, value in items.items()})
        if user_data is not None:
            files[f"{version}/user-data"] = user_data.encode()
    return files


def listing(files: Files, path: str) -> Optional[bytes]:
    """What a directory of the metadata service answers: its entries, one a line; None if there is no such directory."""
    inside = f"{path}/" if path else ""
    names: List[str] = []
    for file in files:
        if file.startswith(inside):
            first, _slash, rest = file[len(inside) :].partition("/")
            # The EC2 tree marks its directories, the openstack tree does not.
            name = f"{first}/" if rest and "meta-data" in inside else first
            if name not in names:
                names.append(name)
    return "\n".join(names).encode() if names else None


def write(files: Files, directory: Path) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
