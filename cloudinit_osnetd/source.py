# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Fetching and reading what the cloud says: the metadata service and the config drive.

The metadata service's layout: https://docs.openstack.org/nova/latest/user/metadata.html
"""

import http.client
import json
import logging
import os
import socket
import tempfile
from typing import NamedTuple, Optional, Tuple

from . import files, network_data, paths
from .command import CommandError, run

LOG = logging.getLogger(__name__)

METADATA_ADDRESS = "169.254.169.254"
_CONNECT_SECONDS = 2.0
_READ_SECONDS = 10.0  # a cold Nova cell takes seconds for its first answer
_LABELS = ("/dev/disk/by-label/config-2", "/dev/disk/by-label/CONFIG-2")


class SourceError(Exception):
    """The source cannot be reached or does not answer with a document."""


class Foreign(SourceError):
    """What answers speaks of another server."""


def _check_uuid(meta: bytes, instance_id: str, where: str) -> None:
    try:
        document = json.loads(meta.decode("utf-8"))
        uuid = document.get("uuid") if isinstance(document, dict) else None
    except (ValueError, RecursionError) as exc:
        raise SourceError("%s: meta_data.json is not JSON: %s" % (where, exc)) from None
    if not isinstance(uuid, str) or uuid.lower() != instance_id.lower():
        raise Foreign("%s: meta_data.json is of server %.60r, we are %s" % (where, uuid, instance_id))


# -- metadata service -----------------------------------------------------------------------------


class _BoundConnection(http.client.HTTPConnection):
    """A connection that leaves through one NIC, whatever the routes of the others say."""

    def __init__(self, device: str) -> None:
        super().__init__(METADATA_ADDRESS, 80, timeout=_CONNECT_SECONDS)
        self._device = device

    def connect(self) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if self._device:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._device.encode())
            sock.settimeout(_CONNECT_SECONDS)
            sock.connect((METADATA_ADDRESS, 80))
            sock.settimeout(_READ_SECONDS)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def _get(connection: http.client.HTTPConnection, name: str) -> bytes:
    connection.request("GET", "/openstack/latest/" + name, headers={"Accept": "application/json"})
    answer = connection.getresponse()
    body = answer.read(network_data.MAX_BYTES + 1)
    if answer.status != 200:
        raise SourceError("%s: HTTP status %d" % (name, answer.status))
    if len(body) <= network_data.MAX_BYTES and answer.length:
        raise SourceError("%s: %d bytes short" % (name, answer.length))
    return body


def fetch(device: str, instance_id: str) -> network_data.NetworkData:
    """meta_data.json, whose uuid must be ours, then network_data.json, on one connection.

    `device` is the NIC to go through. Raises SourceError, or network_data.Refused.
    """
    where = "metadata via %s" % device
    connection = _BoundConnection(device)
    try:
        _check_uuid(_get(connection, "meta_data.json"), instance_id, where)
        body = _get(connection, "network_data.json")
    except (OSError, http.client.HTTPException) as exc:
        raise SourceError("%s: %s" % (where, str(exc) or type(exc).__name__)) from exc
    finally:
        connection.close()
    return network_data.parse_bytes(body)


# -- config drive ---------------------------------------------------------------------------------


class Drive(NamedTuple):
    """Where the drive is: a directory (a seed) or a block device."""

    path: str
    device: bool


def find_drive() -> Optional[Drive]:
    """The config drive, as cloud-init looks for it: the seed directory first, then by its label."""
    if os.path.isdir(os.path.join(paths.SEED, "openstack")):
        return Drive(paths.SEED, device=False)
    for label in _LABELS:
        if os.path.exists(label):
            return Drive(label, device=True)
    return None


def drive_stamp(drive: Drive) -> str:
    """Tells one drive's content from another's without a mount.

    The head of an ISO 9660 or vfat volume holds its serial number or its time of creation, to a
    hundredth of a second; of a directory the files' times and sizes serve.
    """
    if drive.device:
        with open(drive.path, "rb") as fh:
            return network_data.digest_of(fh.read(65536).hex())
    marks = []
    for name in ("meta_data.json", "network_data.json"):
        try:
            info = os.stat(os.path.join(drive.path, "openstack/latest", name))
            marks.append([name, info.st_mtime_ns, info.st_size])
        except OSError:
            continue
    return network_data.digest_of(marks)


def _read_tree(tree: str) -> Tuple[bytes, bytes]:
    def content(name: str) -> bytes:
        with open(os.path.join(tree, "openstack/latest", name), "rb") as fh:
            return fh.read(network_data.MAX_BYTES + 1)

    return content("meta_data.json"), content("network_data.json")


def read_drive(drive: Drive, instance_id: str) -> network_data.NetworkData:
    """The drive's network_data. Raises SourceError, or network_data.Refused."""
    try:
        if not drive.device:
            meta, body = _read_tree(drive.path)
        else:
            os.makedirs(paths.RUN, exist_ok=True)
            mount_point = tempfile.mkdtemp(prefix="drive-", dir=paths.RUN)
            try:
                run(["mount", "-o", "ro,nosuid,nodev,noexec", drive.path, mount_point])
                try:
                    meta, body = _read_tree(mount_point)
                finally:
                    run(["umount", mount_point])
            finally:
                os.rmdir(mount_point)
    except (OSError, CommandError) as exc:
        raise SourceError("config drive %s: %s" % (drive.path, exc)) from exc
    _check_uuid(meta, instance_id, "config drive %s" % drive.path)
    return network_data.parse_bytes(body)


def datasource() -> str:
    """The datasource in force: "ConfigDrive", "OpenStack", another's name, or empty."""
    text = files.read(paths.DATASOURCE) or ""
    name = text.split(":", 1)[0].strip()
    for known in ("ConfigDrive", "OpenStack"):
        if name.startswith("DataSource" + known):
            return known
    return name[len("DataSource") :] if name.startswith("DataSource") else name
