# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Fetching and reading what the cloud says: the metadata service and the config drive.

The metadata service's layout: https://docs.openstack.org/nova/latest/user/metadata.html
"""

import json
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Tuple

from ..core import digest, network_data
from ..kernel import netlink
from ..system import paths
from ..system.command import CommandError, run
from ..system.lazy_imports import http_client

if TYPE_CHECKING:
    from http import client
else:
    client = http_client()

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
    try:
        document = json.loads(meta.decode("utf-8"))
        uuid = document.get("uuid") if isinstance(document, dict) else None
    except (ValueError, RecursionError) as exc:
        raise SourceError("meta_data.json is not JSON: %s" % exc) from None
    if not isinstance(uuid, str) or uuid.lower() != instance_id.lower():
        raise Foreign("%s: meta_data.json is of server %.60r, we are %s" % (where, uuid, instance_id))


# -- metadata service -----------------------------------------------------------------------------


class _BoundConnection(client.HTTPConnection):
    """A connection that leaves through one NIC, whatever the routes of the others say."""

    def __init__(self, device: str, ipv6: bool) -> None:
        super().__init__(METADATA4, 80, timeout=_CONNECT_SECONDS)
        self._device = device
        self._family = socket.AF_INET6 if ipv6 else socket.AF_INET
        # `sock` is None once an answer that ends with the connection has begun, and its body is still to be read.
        self._wire: Optional[socket.socket] = None
        self.over = False

    def connect(self) -> None:
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            if self._family == socket.AF_INET6:
                index = socket.if_nametoindex(self._device)
                address: Tuple[Any, ...] = (METADATA6, 80, 0, index)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._device.encode())
                address = (METADATA4, 80)
            sock.settimeout(_CONNECT_SECONDS)
            sock.connect(address)
            sock.settimeout(_READ_SECONDS)
        except BaseException:
            sock.close()
            raise
        self.sock = self._wire = sock
        if self.over:  # the second document's connection, where the first answer ended the first one
            self.hang_up()

    def hang_up(self) -> None:
        """End whatever is being read or will be; by another thread than the reader's."""
        LOG.warning("metadata via %s: not told in %d s, hung up", self._device, _TOTAL_SECONDS)
        self.over = True
        try:
            if self._wire is not None:
                self._wire.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # closed by the other side, or by us a moment ago


def _get(connection: _BoundConnection, name: str) -> bytes:
    connection.request("GET", "/openstack/latest/" + name, headers={"Accept": "application/json"})
    if connection.sock is not None:
        # A service that sends head and body apart waits for us to acknowledge the head: else that takes 40 ms.
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    answer = connection.getresponse()
    body = answer.read(network_data.MAX_BYTES + 1)
    if connection.over:  # where the end of the connection ends the body, half of one looks like a whole one
        raise SourceError("%s: not told in %d s" % (name, _TOTAL_SECONDS))
    if answer.status == 404:
        raise Stranger("%s: HTTP status 404" % name)
    if answer.status != 200:
        raise SourceError("%s: HTTP status %d" % (name, answer.status))
    if len(body) <= network_data.MAX_BYTES and answer.length:
        raise SourceError("%s: %d bytes short" % (name, answer.length))
    return body


def fetch(device: str, instance_id: str, ipv6: bool = False) -> network_data.NetworkData:
    """meta_data.json, whose uuid must be ours, then network_data.json, on one connection.

    `device` is the NIC to go through, `ipv6` by its link-local address. Raises SourceError, or
    network_data.Refused.
    """
    where = "metadata via %s%s" % (device, " (IPv6)" if ipv6 else "")
    connection = _BoundConnection(device, ipv6)
    too_long = threading.Timer(_TOTAL_SECONDS, connection.hang_up)
    too_long.daemon = True
    try:
        try:
            connection.connect()
        except OSError as exc:
            raise Silent(exc.strerror or str(exc)) from exc
        too_long.start()
        _check_uuid(_get(connection, "meta_data.json"), instance_id, where)
        body = _get(connection, "network_data.json")
    except Foreign:
        raise
    except SourceError as exc:
        raise type(exc)("%s: %s" % (where, exc)) from exc
    except socket.timeout as exc:
        raise Silent("%s: connected, and not a word in %d s" % (where, _READ_SECONDS)) from exc
    except (OSError, client.HTTPException) as exc:
        raise SourceError("%s: %s" % (where, str(exc) or type(exc).__name__)) from exc
    finally:
        too_long.cancel()
        connection.close()
    return network_data.parse_bytes(body, netlink.macs_by_name)


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
            return digest.of_value(fh.read(65536).hex())
    marks = []
    for name in ("meta_data.json", "network_data.json"):
        try:
            info = os.stat(os.path.join(drive.path, "openstack/latest", name))
            marks.append([name, info.st_mtime_ns, info.st_size])
        except OSError:
            continue
    return digest.of_value(marks)


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
    return network_data.parse_bytes(body, netlink.macs_by_name)
