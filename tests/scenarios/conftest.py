# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What every scenario starts from: a cloud of its own, and guests of both backends."""

from __future__ import annotations

import itertools
import os
import re
import zlib
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Union

import pytest

pytest.register_assert_rewrite("tests.scenarios.seen", "tests.scenarios.serving", "tests.scenarios.killing")

from tests.lab import VM, Cloud, Container, LabError, Server, netns
from tests.scenarios.place import a_place, booted_once, gone_back_to  # noqa: F401 - fixtures

GuestFactory = Callable[..., Container]


class Kind(NamedTuple):
    """A suite, the backend that its guests use, and "vm" where they are virtual machines; with netplan they always are."""

    suite: str
    backend: str
    machine: str = ""

    @property
    def is_vm(self) -> bool:
        return self.machine == "vm" or self.backend == "netplan"

    def __str__(self) -> str:
        return "-".join(filter(None, self))


def _kinds(words: str) -> List[Kind]:
    """`suite-backend[-vm],...`"""
    return [Kind(*word.split("-")) for word in words.split(",")]


# Any other suite and backend of the lab's recipes can be asked for: OSNETD_KINDS=sid-networkd,trixie-netplan,bookworm-ifupdown-vm.
_ASKED = os.environ.get("OSNETD_KINDS", "")
KINDS = _kinds(_ASKED or "trixie-networkd,bookworm-ifupdown,bullseye-ifupdown")
# `make test` runs a scenario that is not marked `every_kind` on one of these, always the same one; `make deep` on all.
_BY_TURNS = KINDS[:2]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "vm: boots a virtual machine; half a minute a boot where QEMU has to emulate")
    config.addinivalue_line("markers", "deep: many boots of virtual machines; `make deep` runs these, `make test` does not")
    config.addinivalue_line("markers", "every_kind: on each kind of guest in `make test`; others run on one there, and on all in `make deep`")
    config.addinivalue_line("markers", "on(word, ...): about guests in whose kind one of the words stands: a suite, a backend, or both")
    config.addinivalue_line("markers", "quick: the scenario of its backend in `make quick`")
    config.addinivalue_line("markers", "long: takes minutes, so it is begun first where several run side by side")


def pytest_collection_modifyitems(config: pytest.Config, items: List[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=[item for item in items if not _is_about(item, _kind(item))])
    items[:] = [item for item in items if _is_about(item, _kind(item))]
    items.sort(key=lambda item: not any(item.iter_markers("long")))
    if not _ASKED:
        for name, group in itertools.groupby(sorted(items, key=_without_kind), _without_kind):
            same = [item for item in group if _kind(item) in KINDS and not any(item.iter_markers("every_kind"))]
            turns = [item for item in same if _kind(item) in _BY_TURNS] or same
            for item in same:
                if item is not turns[zlib.crc32(name.encode()) % len(turns)]:
                    item.add_marker(pytest.mark.deep)
    if os.geteuid() != 0:
        for item in items:
            if "scenarios" in item.nodeid:
                item.add_marker(pytest.mark.skip(reason="real guests need root"))


def _kind(item: pytest.Item) -> Optional[Kind]:
    spec = getattr(item, "callspec", None)
    return spec.params.get("kind") if spec is not None else None


def _without_kind(item: pytest.Item) -> str:
    """What is the same for one scenario on each kind of guest."""
    kind = _kind(item)
    return item.nodeid if kind is None else re.sub(rf"(?<=[\[-]){re.escape(str(kind))}(?=[\]-])", "", item.nodeid)


def _is_about(item: pytest.Item, kind: Optional[Kind]) -> bool:
    """False for a kind of guest that a scenario says nothing of."""
    markers = [marker.args for marker in item.iter_markers("on")]
    return kind is None or all(any(set(word.split("-")) <= set(kind) for word in words) for words in markers)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as cloud:
        yield cloud


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each scenario runs once for each kind of guest."""
    return request.param


@pytest.fixture
def guest_factory(request: pytest.FixtureRequest, cloud: Cloud, kind: Kind) -> Iterator[GuestFactory]:
    """Makes guests: guest_factory(server, **as for Container). A failed test shows what became of them."""
    guests: List[Any] = []
    request.node.guests = guests

    def make(server: Server, **options: Any) -> Any:
        make_guest = a_machine if kind.is_vm else Container
        guests.append(make_guest(cloud, server, kind.suite, kind.backend, **options))
        return guests[-1]

    yield make
    for guest in guests:
        guest.destroy()


class _Machine(VM):
    """A virtual machine in a scenario that was written for both."""

    @property
    def root(self) -> Path:
        pytest.skip("needs the guest's disk as a directory, which a virtual machine's is not")


def a_machine(cloud: Cloud, server: Server, suite: str, backend: str, **options: Any) -> VM:
    """A virtual machine for the words of a container."""
    if options.pop("datasource", "ConfigDrive") != "ConfigDrive":
        pytest.skip("virtual machines have a config drive")
    if not options.pop("trusted_cache", True):
        pytest.skip("by its DMI uuid a virtual machine trusts its cache")
    return _Machine(cloud, server, suite, backend, slots=12, **options)  # a scenario attaches eight at once


@pytest.fixture
def vm_factory(request: pytest.FixtureRequest, cloud: Cloud) -> Iterator[Callable[..., VM]]:
    """Makes virtual machines: vm_factory(server, **as for VM)."""
    guests: List[VM] = []
    request.node.guests = guests

    def make(server: Server, **options: Any) -> VM:
        guests.append(VM(cloud, server, **options))
        return guests[-1]

    yield make
    for guest in guests:
        guest.destroy()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: "pytest.CallInfo[None]") -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if call.when == "call" and report.failed:
        report.sections += [(f"guest {guest.name}", _story(guest)) for guest in getattr(item, "guests", [])]


def _story(guest: Union[Container, VM]) -> str:
    """What a reader of a failed test wants to know of the guest."""
    looks = (
        "ip -brief address; ip route; ip -6 route; ip -s link",
        "systemctl --failed --no-legend",
        "journalctl --no-pager -b -o short-monotonic | grep -v -e kernel: | tail -n 120",
    )
    story = [f"console:\n{guest.console()[-2000:]}"]
    story += [f"DHCP on {network.name}:\n{guest.cloud.dhcp_log(network)[-2000:]}" for network in guest.cloud.networks]
    for look in ("ip -4 neigh", "bridge link", "ip -s link"):
        story.append(f"# the cloud's own: {look}\n{netns.output(guest.cloud.namespace, look.split())}")
    for look in looks:
        try:
            story.append(f"# {look}\n{guest.run(look, check=False, timeout=10).stdout}")
        except LabError as error:
            story.append(f"# {look}\n{error}")
    return "\n".join(story)
