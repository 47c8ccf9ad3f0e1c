# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""source: what a metadata service and a config drive may answer, and what is made of it."""

import contextlib
import json
import socket
import threading
import time

import pytest

from cloudinit_osnetd.core import network_data
from cloudinit_osnetd.core.network_data import Refused
from cloudinit_osnetd.openstack import metadata
from cloudinit_osnetd.system import files, paths

from .build import A, document, link, static

UUID = "1b2c0000-0000-0000-0000-00000000000a"
META = json.dumps({"uuid": UUID, "hostname": "web"}).encode()
BODY = json.dumps(document([link()], [static()])).encode()


def answer(body, status="200 OK", length=None, **headers):
    fields = {"Content-Length": str(len(body) if length is None else length), **headers}
    head = "".join("%s: %s\r\n" % item for item in fields.items() if item[1])
    return ("HTTP/1.1 %s\r\n%s\r\n" % (status, head)).encode() + body


class Service:
    """A metadata service that says, byte for byte, what it is told to say. Closes after an incomplete answer."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(5)
        self.answers = {}
        self.requests = []
        self.connections = 0
        self.pause = 0.0  # seconds, after each byte
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @property
    def address(self):
        return self.listener.getsockname()

    def _serve(self):
        while True:
            try:
                connection, _peer = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                self._converse(connection)
            except OSError:
                pass  # hung up on, as it does itself
            finally:
                connection.close()

    def _converse(self, connection):
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = connection.recv(65536)
                if not more:
                    return
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            path = head.split()[1].decode()
            self.requests.append(path)
            said, whole = self.answers[path.rsplit("/", 1)[1]]
            self._say(connection, said)
            if not whole:
                return

    def _say(self, connection, said):
        if not self.pause:
            connection.sendall(said)
            return
        with contextlib.suppress(OSError):  # hung up on
            for byte in said:
                connection.sendall(bytes([byte]))
                time.sleep(self.pause)

    def close(self):
        self.listener.close()


@contextlib.contextmanager
def served_by(found, monkeypatch):
    real = socket.socket

    class Redirected(real):
        """Goes to the service of this test instead of the metadata address."""

        def connect(self, address):
            assert address == ("169.254.169.254", 80)
            real.connect(self, found.address)

    monkeypatch.setattr(metadata.socket, "socket", Redirected)
    monkeypatch.setattr(metadata, "_READ_SECONDS", 1.0)
    yield found
    found.close()


@pytest.fixture
def service(monkeypatch):
    with served_by(Service(), monkeypatch) as found:
        yield found


def tell(service, meta=None, body=None, whole=True):
    service.answers = {
        "meta_data.json": (meta or answer(META), True),
        "network_data.json": (answer(BODY) if body is None else body, whole),
    }


def test_both_documents_come_over_one_connection(service):
    tell(service)
    assert list(metadata.fetch("", UUID).entries) == [A + "/phy"]
    assert service.requests == ["/openstack/latest/meta_data.json", "/openstack/latest/network_data.json"]
    assert service.connections == 1


class Concurrent(Service):
    """Serves each connection in a thread of its own; an answer takes `latency` seconds."""

    latency = 0.0
    reset = 0  # the number of the connection that is reset at once

    def _serve(self):
        while True:
            try:
                connection, _peer = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.connections == self.reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.close()  # by a reset
                continue
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        with contextlib.suppress(OSError), connection:
            self._converse(connection)

    def _say(self, connection, said):
        time.sleep(self.latency)
        super()._say(connection, said)


@pytest.fixture
def concurrent(monkeypatch):
    with served_by(Concurrent(), monkeypatch) as found:
        yield found


def test_a_service_that_answered_before_is_asked_for_both_documents_at_once(concurrent):
    """A real service takes its time for each; a proxy answers the requests of one connection one after the other."""
    concurrent.latency = 0.4
    tell(concurrent)
    began = time.monotonic()
    assert list(metadata.fetch("", UUID, at_once=True).entries) == [A + "/phy"]
    assert 0.4 <= time.monotonic() - began < 0.75
    assert concurrent.connections == 2


@pytest.mark.parametrize("fault", [b"", b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"], ids=["closed", "503"])
def test_asked_at_once_the_second_answer_counts_as_little_as_the_first(concurrent, fault):
    tell(concurrent, body=fault, whole=False)
    with pytest.raises(metadata.SourceError, match="metadata via"):
        metadata.fetch("", UUID, at_once=True)


@pytest.mark.parametrize(
    ("meta", "error"),
    [
        (answer(json.dumps({"uuid": UUID[:-1] + "b"}).encode()), metadata.WrongInstance),
        (answer(b"", "404 Not Found"), metadata.UnknownClient),
        (answer(b"{"), metadata.SourceError),
    ],
)
@pytest.mark.parametrize("body", [answer(BODY), answer(b"", "500 Failed"), answer(b"{}")])
def test_asked_at_once_what_the_first_document_says_goes_first(concurrent, meta, error, body):
    tell(concurrent, meta=meta, body=body)
    with pytest.raises(error) as caught:
        metadata.fetch("", UUID, at_once=True)
    assert caught.type is error


def test_a_service_of_one_connection_at_a_time_is_asked_for_both_all_the_same(service):
    tell(service)
    assert list(metadata.fetch("", UUID, at_once=True).entries) == [A + "/phy"]
    assert service.requests == ["/openstack/latest/meta_data.json", "/openstack/latest/network_data.json"]


def test_a_service_that_resets_a_second_connection_is_asked_again(concurrent):
    concurrent.reset, concurrent.latency = 2, 0.1
    tell(concurrent)
    assert list(metadata.fetch("", UUID, at_once=True).entries) == [A + "/phy"]
    assert concurrent.connections == 3


def test_where_a_second_connection_cannot_be_made_the_document_is_asked_for_after_the_first(monkeypatch, service):
    tell(service)
    made = []
    connect = metadata.socket.socket.connect

    def second_fails(sock, address):
        made.append(sock)
        if len(made) == 2:
            raise ConnectionRefusedError(111, "Connection refused")
        connect(sock, address)

    monkeypatch.setattr(metadata.socket.socket, "connect", second_fails)
    assert list(metadata.fetch("", UUID, at_once=True).entries) == [A + "/phy"]
    assert len(made) == 3


@pytest.mark.parametrize("slow", ["meta_data.json", "network_data.json"])
@pytest.mark.parametrize("at", [1, 30])
def test_asked_at_once_a_slow_answer_is_given_up_all_the_same(monkeypatch, concurrent, slow, at):
    """It stops before its head is whole, or within."""
    monkeypatch.setattr(metadata, "_TOTAL_SECONDS", 0.6)
    monkeypatch.setattr(metadata, "_READ_SECONDS", 5.0)
    tell(concurrent)
    drip = b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 900
    concurrent.answers[slow] = (drip, False)
    say = concurrent._say

    def slowly(connection, said):
        if said != drip:
            say(connection, said)
            return
        connection.sendall(said[:at])
        for byte in said[at:]:
            time.sleep(0.05)
            connection.sendall(bytes([byte]))

    monkeypatch.setattr(concurrent, "_say", slowly)
    began = time.monotonic()
    with pytest.raises(metadata.SourceError):
        metadata.fetch("", UUID, at_once=True)
    assert 0.5 < time.monotonic() - began < 3


def test_a_service_that_says_its_words_one_by_one_is_hung_up_on(monkeypatch, service):
    monkeypatch.setattr(metadata, "_TOTAL_SECONDS", 0.6)
    service.pause = 0.05
    tell(service)
    began = time.monotonic()
    with pytest.raises(metadata.SourceError):
        metadata.fetch("", UUID)
    assert time.monotonic() - began < 3  # at this pace it would take some thirty seconds


CLOSING = {
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 900\r\n\r\n",
    "Connection: close": b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\nConnection: close\r\n\r\n",
    "no length": b"HTTP/1.1 200 OK\r\n\r\n",
    "chunks": b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n384\r\n",
}


@pytest.mark.parametrize("head", CLOSING.values(), ids=CLOSING)
@pytest.mark.parametrize("slow", ["meta_data.json", "network_data.json"])
def test_one_that_ends_its_answer_with_the_connection_is_hung_up_on_too(monkeypatch, service, head, slow):
    """http.client lets go of the connection then, and reads on; for the second document it makes another."""
    monkeypatch.setattr(metadata, "_TOTAL_SECONDS", 0.6)
    drip = head + b" " * 900
    closing = answer(META).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    service.answers = {"meta_data.json": (closing, False), "network_data.json": (drip, False)}
    service.answers[slow] = (drip, False)
    say = service._say

    def slowly(connection, said):
        if said == drip:
            say(connection, head)
            said, service.pause = said[len(head) :], 0.05
        say(connection, said)

    monkeypatch.setattr(service, "_say", slowly)
    began = time.monotonic()
    with pytest.raises(metadata.SourceError):
        metadata.fetch("", UUID)
    assert time.monotonic() - began < 3
    assert service.requests[-1].endswith(slow)


@pytest.mark.parametrize("uuid", [UUID.upper(), UUID])
def test_our_uuid_is_compared_without_case(service, uuid):
    tell(service, meta=answer(json.dumps({"uuid": uuid}).encode()))
    assert metadata.fetch("", UUID).entries


@pytest.mark.parametrize(
    "meta",
    [{"uuid": UUID[:-1] + "b"}, {"uuid": ""}, {"uuid": None}, {"uuid": 7}, {"uuid": [UUID]}, {}, [], "x", None],
    ids=repr,
)
def test_what_speaks_of_another_server_is_not_listened_to(service, meta):
    tell(service, meta=answer(json.dumps(meta).encode()))
    with pytest.raises(metadata.WrongInstance):
        metadata.fetch("", UUID)
    assert service.requests == ["/openstack/latest/meta_data.json"]


NO_META = [
    b"",
    b"{",
    b"\xff",
    b"[" * 100000,
    b"<html>",
    b'{"uuid": "%s"}' % UUID.encode() + b" " * network_data.MAX_BYTES + b"x",
]


@pytest.mark.parametrize("meta", NO_META, ids=lambda raw: repr(raw[:10]))
def test_a_meta_data_that_is_no_json_is_no_answer(service, meta):
    tell(service, meta=answer(meta))
    with pytest.raises(metadata.SourceError):
        metadata.fetch("", UUID)


@pytest.mark.parametrize(
    "status",
    [
        "503 Service Unavailable",
        "500 Internal Server Error",
        "404 Not Found",
        "302 Found",
        "204 No Content",
        "403 Forbidden",
    ],
)
@pytest.mark.parametrize("where", ["meta", "body"])
def test_any_status_but_200_is_no_answer(service, status, where):
    tell(service, **{where: answer(META if where == "meta" else BODY, status)})
    with pytest.raises(metadata.SourceError, match=status[:3]):
        metadata.fetch("", UUID)


CUT = [
    answer(BODY[:-1], length=len(BODY)),
    answer(b"", length=len(BODY)),
    b"",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n",
    b"no http at all\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n",
]


@pytest.mark.parametrize("said", CUT, ids=lambda raw: repr(raw[-12:]))
def test_an_answer_that_breaks_off_says_nothing(service, said):
    tell(service, body=said, whole=False)
    with pytest.raises((metadata.SourceError, Refused)):
        metadata.fetch("", UUID)


@pytest.mark.parametrize("length", [len(BODY) + 1, 2 * len(BODY)])
def test_less_than_was_announced_is_no_answer_also_where_it_could_be_read(service, length):
    tell(service, body=answer(BODY, length=length), whole=False)
    with pytest.raises(metadata.SourceError, match="short"):
        metadata.fetch("", UUID)


@pytest.mark.parametrize("end", [1, len(BODY) // 2, len(BODY) - 1])
def test_a_document_without_a_length_that_breaks_off_says_nothing(service, end):
    tell(service, body=b"HTTP/1.0 200 OK\r\n\r\n" + BODY[:end], whole=False)
    with pytest.raises((metadata.SourceError, Refused)):
        metadata.fetch("", UUID)


def test_a_service_that_says_nothing_is_given_up(service):
    class Silent:
        def __getitem__(self, _name):
            import time

            time.sleep(3)
            raise OSError

    service.answers = Silent()
    with pytest.raises(metadata.SourceError, match="no data within"):
        metadata.fetch("", UUID)


@pytest.mark.parametrize("said", [b"{}", b"[]", b"null", b"{", b'{"links": null}'], ids=repr)
def test_a_document_that_says_nothing_is_refused(service, said):
    tell(service, body=answer(said))
    with pytest.raises(Refused):
        metadata.fetch("", UUID)


@pytest.mark.parametrize("more", [1, 10 * network_data.MAX_BYTES])
def test_a_document_of_more_than_1_mib_is_refused_and_not_read_to_its_end(service, more):
    tell(service, body=answer(BODY.ljust(network_data.MAX_BYTES + more)), whole=False)
    with pytest.raises(Refused, match="larger"):
        metadata.fetch("", UUID)


def test_a_document_of_exactly_1_mib_is_read(service):
    tell(service, body=answer(BODY.ljust(network_data.MAX_BYTES)))
    assert metadata.fetch("", UUID).entries


def test_nobody_there_is_no_answer(service):
    service.close()
    service.thread.join(0.1)
    with pytest.raises(metadata.SourceError):
        metadata.fetch("", UUID)


def test_a_nic_that_has_gone_is_no_answer(service):
    with pytest.raises(metadata.SourceError, match="via nonesuch7"):
        metadata.fetch("nonesuch7", UUID)


# -- the config drive ---------------------------------------------------------------------------------------


def seed(meta=META, body=BODY):
    for name, raw in (("meta_data.json", meta), ("network_data.json", body)):
        if raw is not None:
            files.replace(paths.SEED + "/openstack/latest/" + name, raw.decode("utf-8", "surrogateescape"))


def read_drive():
    return metadata.read_drive(metadata.find_drive(), UUID)


def test_the_seed_directory_is_read(guest):
    seed()
    assert list(read_drive().entries) == [A + "/phy"]


@pytest.mark.parametrize(
    ("meta", "body", "error"),
    [
        (json.dumps({"uuid": "x"}).encode(), BODY, metadata.WrongInstance),
        (b"{", BODY, metadata.SourceError),
        (None, BODY, metadata.SourceError),
        (META, None, metadata.SourceError),
        (META, b"{", Refused),
        (META, b"\xff", Refused),
        (META, b"{}", Refused),
        (META, BODY.ljust(network_data.MAX_BYTES + 1), Refused),
    ],
)
def test_a_drive_with_nothing_to_say(guest, meta, body, error):
    seed(meta, body)
    with pytest.raises(error):
        read_drive()


def test_no_drive_is_none(guest, monkeypatch):
    monkeypatch.setattr(paths, "CONFIG_DRIVES", (str(guest / "config-2"),))
    assert metadata.find_drive() is None


def test_a_device_is_found_by_its_label_and_the_seed_goes_first(guest, monkeypatch):
    device = guest / "CONFIG-2"
    device.write_bytes(b"x")
    monkeypatch.setattr(paths, "CONFIG_DRIVES", (str(guest / "config-2"), str(device)))
    assert metadata.find_drive() == metadata.Drive(str(device), True)
    seed()
    assert metadata.find_drive() == metadata.Drive(paths.SEED, False)


def test_a_device_that_cannot_be_mounted_is_no_answer_and_leaves_no_mount_point(guest):
    device = guest / "config-2"
    device.write_bytes(b"x")
    with pytest.raises(metadata.SourceError):
        metadata.read_drive(metadata.Drive(str(device), True), UUID)
    assert not list((guest / "run/cloudinit-osnetd").iterdir())


def test_another_drive_has_another_stamp(guest):
    seed()
    first = metadata.drive_stamp(metadata.find_drive())
    assert metadata.drive_stamp(metadata.find_drive()) == first
    seed(body=BODY + b" ")
    assert metadata.drive_stamp(metadata.find_drive()) != first


def test_another_volume_has_another_stamp(tmp_path):
    device = tmp_path / "sr0"
    device.write_bytes(b"\0" * 32768 + b"2026010100000000" + b"\0" * 40000)
    first = metadata.drive_stamp(metadata.Drive(str(device), True))
    device.write_bytes(b"\0" * 32768 + b"2026010100000001" + b"\0" * 40000)
    assert metadata.drive_stamp(metadata.Drive(str(device), True)) != first
