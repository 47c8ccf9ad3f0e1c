# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Fetching and reading what the cloud says: the metadata service and the config drive.

The metadata service's layout: https://docs.openstack.org/nova/latest/user/metadata.html
"""

import json
import logging
import os
import socket
import time
from typing import Any, NamedTuple, Optional, Tuple

from . import files, http1, network_data, paths
from .command import CommandError, run

LOG = logging.getLogger(__name__)

METADATA4 = "169.254.169.254"
METADATA6 = "fe80::a9fe:a9fe"  # Neutron since Victoria, on each network of an IPv6 capable agent
_CONNECT_SECONDS = 2.0
_READ_SECONDS = 10.0  # a cold Nova cell takes seconds for its first answer
_TOTAL_SECONDS = 20.0  # for both documents, of a service that says its words one by one
_LABELS = ("/dev/disk/by-label/config-2", "/dev/disk/by-label/CONFIG-2")


class SourceError(Exception):
    """The source cannot be reached or does not answer with a document."""


class Silent(SourceError):
    """Nothing answers there: no route, no host, no service, no word in time."""


class Stranger(SourceError):
    """The service does not know whom it hears from (404): an address that is no longer the port's."""


class Foreign(SourceError):
    """What answers speaks of another server."""


def _check_uuid(meta: bytes, instance_id: str, where: str) -> None:
    if len(meta) > network_data.MAX_BYTES:
        raise SourceError("meta_data.json is larger than %d bytes" % network_data.MAX_BYTES)
    try:
        document = json.loads(meta.decode("utf-8"))
        uuid = document.get("uuid") if isinstance(document, dict) else None
    except (ValueError, RecursionError) as exc:
        raise SourceError("meta_data.json is not JSON: %s" % exc) from None
    if not isinstance(uuid, str) or uuid.lower() != instance_id.lower():
        raise Foreign("%s: meta_data.json is of server %.60r, we are %s" % (where, uuid, instance_id))


# -- metadata service -----------------------------------------------------------------------------


def _connected(device: str, ipv6: bool) -> socket.socket:
    """A connection that leaves through one NIC, whatever the routes of the others say. Raises Silent."""
    sock = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if ipv6:
            address: Tuple[Any, ...] = (METADATA6, 80, 0, socket.if_nametoindex(device))
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            address = (METADATA4, 80)
        sock.settimeout(_CONNECT_SECONDS)
        sock.connect(address)
    except OSError as exc:
        sock.close()
        raise Silent(exc.strerror or str(exc)) from exc
    return sock


def _get(conversation: http1.Conversation, name: str) -> bytes:
    answer = conversation.get("/openstack/latest/" + name, network_data.MAX_BYTES + 1)
    if answer.status == 404:
        raise Stranger("%s: HTTP status 404" % name)
    if answer.status != 200:
        raise SourceError("%s: HTTP status %d" % (name, answer.status))
    if answer.missing:
        raise SourceError("%s: %d bytes short" % (name, answer.missing))
    return answer.body


def fetch(device: str, instance_id: str, ipv6: bool = False) -> network_data.NetworkData:
    """meta_data.json, whose uuid must be ours, then network_data.json, on one connection.

    `device` is the NIC to go through, `ipv6` by its link-local address. Raises SourceError, or
    network_data.Refused.
    """
    where = "metadata via %s%s" % (device, " (IPv6)" if ipv6 else "")
    deadline = time.monotonic() + _TOTAL_SECONDS
    conversation = http1.Conversation(lambda: _connected(device, ipv6), METADATA4, deadline, _READ_SECONDS)
    try:
        _check_uuid(_get(conversation, "meta_data.json"), instance_id, where)
        body = _get(conversation, "network_data.json")
    except Foreign:
        raise
    except SourceError as exc:
        raise type(exc)("%s: %s" % (where, exc)) from exc
    except socket.timeout as exc:
        raise Silent("%s: connected, and not a word in %d s" % (where, _READ_SECONDS)) from exc
    except (OSError, http1.HttpError) as exc:
        raise SourceError("%s: %s" % (where, str(exc) or type(exc).__name__)) from exc
    finally:
        conversation.close()
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
            import tempfile

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
    try:
        _check_uuid(meta, instance_id, "config drive %s" % drive.path)
    except Foreign:
        raise
    except SourceError as exc:
        raise SourceError("config drive %s: %s" % (drive.path, exc)) from exc
    return network_data.parse_bytes(body)


def datasource() -> str:
    """The datasource in force: "ConfigDrive", "OpenStack", another's name, or empty."""
    text = files.read(paths.DATASOURCE) or ""
    name = text.split(":", 1)[0].strip()
    for known in ("ConfigDrive", "OpenStack"):
        if name.startswith("DataSource" + known):
            return known
    return name[len("DataSource") :] if name.startswith("DataSource") else name
