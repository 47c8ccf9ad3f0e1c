# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Imports that cost time, when they cost least: later than written, or earlier than needed, beside a wait."""

import importlib
import sys
import threading
import types
from contextlib import contextmanager
from typing import Any, Iterator

_process = types.SimpleNamespace(ours=False)


def in_our_process() -> None:
    """Say that this process is ours, as the command line does: what below changes it is for such a one alone.

    The datasources in sources/ run in cloud-init's own process, where nothing of it may be another than it is.
    """
    _process.ours = True


def is_our_process() -> bool:
    return bool(_process.ours)


class _Later(types.ModuleType):
    """A module that is imported when something of it is used; what is named meanwhile gets a class of that name."""

    named_only = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self.named_only:
            return _named(self.__name__, name)
        return getattr(_real(self.__name__), name)


def _real(name: str) -> types.ModuleType:
    """The module itself, also where its stand-in still has its place."""
    if isinstance(sys.modules.get(name), _Later):
        del sys.modules[name]
    return importlib.import_module(name)


def _named(module: str, name: str) -> type:
    """A class by that name; to call it is to call the real thing, be that a class or a function."""

    def new(_cls: type, *args: Any, **kwargs: Any) -> Any:
        return getattr(_real(module), name)(*args, **kwargs)

    return type(name, (Exception,), {"__module__": module, "__new__": new})


@contextmanager
def named_only(*names: str) -> Iterator[None]:
    """Within the block to import these modules costs nothing, unless they are imported already.

    For an import that only names things of theirs, in an annotation or a default. Whoever uses one
    afterwards gets the real one: what the block imported keeps the stand-in, which then is the real
    module in all but name. A module within one of these cannot be imported in the block. It holds
    for every thread: what another one imports meanwhile gets the stand-ins, too.
    """
    later = {name: _Later(name) for name in names if name not in sys.modules}
    for name, module in later.items():
        package, _dot, last = name.rpartition(".")
        if package in later:
            setattr(later[package], last, module)
    sys.modules.update(later)
    try:
        yield
    finally:
        for name, module in later.items():
            module.named_only = False
            if sys.modules.get(name) is module:
                del sys.modules[name]


def http_client() -> types.ModuleType:
    """http.client, without TLS where nobody has imported that: 5 ms and OpenSSL less.

    The metadata service speaks plain HTTP. Whoever imports http.client after us gets a whole one.
    """
    if "http.client" in sys.modules or "ssl" in sys.modules or not is_our_process():
        return importlib.import_module("http.client")
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        module = importlib.import_module("http.client")
    finally:
        del sys.modules["ssl"]
    # Both ways to it: `import http.client` and `from http import client`.
    del sys.modules["http.client"]
    del sys.modules["http"].client
    return module


def import_compat() -> threading.Thread:
    """Begin to import cloud-init, in a thread: whoever imports compat then waits for it."""
    thread = threading.Thread(target=_import_compat, name="import-compat")
    thread.start()
    return thread


def _import_compat() -> None:
    try:
        importlib.import_module("cloudinit_osnetd.cloud_init.compat")
    except Exception:  # noqa: BLE001, S110 - it is raised again where it is needed, and told there
        pass
