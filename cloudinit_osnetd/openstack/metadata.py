# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Reads network_data from the metadata service and from the config drive.

The metadata service's layout: https://docs.openstack.org/nova/latest/user/metadata.html
"""

import json
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Tuple

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
_TOTAL_SECONDS = 20.0  # for both documents, from a service that sends its answer byte by byte


class SourceError(Exception):
    """The source cannot be reached or does not answer with a document."""


class NoResponse(SourceError):
    """Nothing answers: no route, no host, no service, or a timeout."""


class UnknownClient(SourceError):
    """The service does not know the client (404): the source address is no longer the port's."""


class WrongInstance(SourceError):
    """The answer describes another server."""


def _check_uuid(meta: bytes, instance_id: str, where: str) -> None:
    try:
        document = json.loads(meta.decode("utf-8"))
        uuid = document.get("uuid") if isinstance(document, dict) else None
    except (ValueError, RecursionError) as exc:
        raise SourceError("meta_data.json is not JSON: %s" % exc) from None
    if not isinstance(uuid, str) or uuid.lower() != instance_id.lower():
        raise WrongInstance("%s: meta_data.json is of server %.60r, this is %s" % (where, uuid, instance_id))


# -- metadata service -----------------------------------------------------------------------------


class _BoundConnection(client.HTTPConnection):
    """A connection through one NIC, whatever routes other NICs have."""

    def __init__(self, device: str, ipv6: bool, source: str = "") -> None:
        super().__init__(METADATA4, 80, timeout=_CONNECT_SECONDS)
        self._device = device
        self._source = source
        self._family = socket.AF_INET6 if ipv6 else socket.AF_INET
        # http.client sets `sock` to None while it still reads the body of an answer that ends with the connection.
        self._socket: Optional[socket.socket] = None
        self.timed_out = False

    def connect(self) -> None:
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            if self._family == socket.AF_INET6:
                index = socket.if_nametoindex(self._device)
                address: Tuple[Any, ...] = (METADATA6, 80, 0, index)
                if self._source:
                    sock.bind((self._source, 0, 0, index))
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._device.encode())
                address = (METADATA4, 80)
            sock.settimeout(_CONNECT_SECONDS)
            sock.connect(address)
            sock.settimeout(_READ_SECONDS)
        except BaseException:
            sock.close()
            raise
        self.sock = self._socket = sock
        if self.timed_out:  # a connection that was made again, after the first one was closed
            self.abort()

    def abort(self) -> None:
        """Ends all reading, now and later. Called from another thread than the reader's."""
        self.timed_out = True
        try:
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # closed by the other side, or by this process a moment ago


def _request(connection: _BoundConnection, name: str) -> None:
    connection.request("GET", "/openstack/latest/" + name, headers={"Accept": "application/json"})
    if connection.sock is not None:
        # A service that sends head and body separately waits for the acknowledgement of the head, which the kernel
        # otherwise delays by 40 ms.
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _read(connection: _BoundConnection, name: str) -> bytes:
    answer = connection.getresponse()
    body = answer.read(network_data.MAX_BYTES + 1)
    if connection.timed_out:  # if the end of the connection ends the body, a truncated body looks complete
        raise SourceError("%s: timed out after %d s" % (name, _TOTAL_SECONDS))
    if answer.status == 404:
        raise UnknownClient("%s: HTTP status 404" % name)
    if answer.status != 200:
        raise SourceError("%s: HTTP status %d" % (name, answer.status))
    if len(body) <= network_data.MAX_BYTES and answer.length:
        raise SourceError("%s: %d bytes short" % (name, answer.length))
    return body


class _Documents:
    """The requests for both documents, through one NIC."""

    def __init__(self, device: str, ipv6: bool, source: str) -> None:
        self._device = device
        self._first = _BoundConnection(device, ipv6, source)
        self._second = _BoundConnection(device, ipv6, source)
        self._timer = threading.Timer(_TOTAL_SECONDS, self._abort)
        self._timer.daemon = True

    def connect(self) -> None:
        self._first.connect()
        self._timer.start()

    def close(self) -> None:
        self._timer.cancel()
        self._first.close()
        self._second.close()

    def _abort(self) -> None:
        LOG.warning("metadata via %s: timed out after %d s", self._device, _TOTAL_SECONDS)
        self._first.abort()
        self._second.abort()

    def read(self, check: Callable[[bytes], None], at_once: bool) -> bytes:
        """Returns network_data.json. `check` gets meta_data.json, before that.

        With `at_once` both are requested at the same time, on a connection each: a real service takes tens to hundreds
        of milliseconds for an answer, and proxies answer the requests of one connection one after the other. A service
        that serves one connection at a time gets to the second one when the first is closed; if the second one is
        refused or reset, another one is made then.
        """
        _request(self._first, "meta_data.json")
        if not at_once:
            check(_read(self._first, "meta_data.json"))
            _request(self._first, "network_data.json")
            return _read(self._first, "network_data.json")
        try:
            _request(self._second, "network_data.json")
        except OSError:
            self._second.close()
        check(_read(self._first, "meta_data.json"))
        self._first.close()
        if self._second.sock is not None:
            try:
                return _read(self._second, "network_data.json")
            except ConnectionError:
                if self._second.timed_out:
                    raise
                self._second.close()
        _request(self._second, "network_data.json")
        return _read(self._second, "network_data.json")


def fetch(
    device: str, instance_id: str, ipv6: bool = False, at_once: bool = False, source: str = ""
) -> network_data.NetworkData:
    """Fetches meta_data.json, whose uuid must be this server's, and network_data.json.

    `device` is the NIC to use; with `ipv6` its link-local address is used, `source` if it has several. With `at_once`
    both documents are requested at the same time: for a service that has answered for this server before. Raises
    SourceError or network_data.Refused.
    """
    where = "metadata via %s%s" % (device, " (IPv6)" if ipv6 else "")
    documents = _Documents(device, ipv6, source)
    try:
        try:
            documents.connect()
        except OSError as exc:
            raise NoResponse(exc.strerror or str(exc)) from exc
        body = documents.read(lambda meta: _check_uuid(meta, instance_id, where), at_once)
    except WrongInstance:
        raise
    except SourceError as exc:
        raise type(exc)("%s: %s" % (where, exc)) from exc
    except socket.timeout as exc:
        raise NoResponse("%s: connected, but no data within %d s" % (where, _READ_SECONDS)) from exc
    except (OSError, client.HTTPException) as exc:
        raise SourceError("%s: %s" % (where, str(exc) or type(exc).__name__)) from exc
    finally:
        documents.close()
    return network_data.parse_bytes(body, netlink.macs_by_name)


# -- config drive ---------------------------------------------------------------------------------


class Drive(NamedTuple):
    """Where the drive is: a directory (a seed) or a block device."""

    path: str
    device: bool


def find_drive() -> Optional[Drive]:
    """Returns the config drive, searched as cloud-init does: the seed directory first, then the label."""
    if os.path.isdir(os.path.join(paths.SEED, "openstack")):
        return Drive(paths.SEED, device=False)
    for label in paths.CONFIG_DRIVES:
        if os.path.exists(label):
            return Drive(label, device=True)
    return None


def drive_stamp(drive: Drive) -> str:
    """Returns a fingerprint of the drive's content without mounting it.

    The first blocks of an ISO 9660 or vfat volume hold its serial number or its time of creation, to a
    hundredth of a second; for a directory the files' times and sizes are used.
    """
    if drive.device:
        with open(drive.path, "rb") as fh:
            return digest.of_value(fh.read(65536).hex())
    stats = []
    for name in ("meta_data.json", "network_data.json"):
        try:
            info = os.stat(os.path.join(drive.path, "openstack/latest", name))
            stats.append([name, info.st_mtime_ns, info.st_size])
        except OSError:
            continue
    return digest.of_value(stats)


def _read_tree(tree: str) -> Tuple[bytes, bytes]:
    def content(name: str) -> bytes:
        with open(os.path.join(tree, "openstack/latest", name), "rb") as fh:
            return fh.read(network_data.MAX_BYTES + 1)

    return content("meta_data.json"), content("network_data.json")


def read_drive(drive: Drive, instance_id: str) -> network_data.NetworkData:
    """Returns the drive's network_data. Raises SourceError or network_data.Refused."""
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
    except WrongInstance:
        raise
    except SourceError as exc:
        raise SourceError("config drive %s: %s" % (drive.path, exc)) from exc
    return network_data.parse_bytes(body, netlink.macs_by_name)
