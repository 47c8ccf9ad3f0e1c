# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Expensive imports: deferred until they are used, or started early in a thread, during a wait."""

import importlib
import sys
import threading
import types
from contextlib import contextmanager
from typing import Any, Iterable, Iterator

_process = types.SimpleNamespace(ours=False)


def in_our_process() -> None:
    """Declares that this process is ours, as the command line does: only then may the functions below change it.

    The datasources in sources/ run in cloud-init's own process, in which no module may be replaced.
    """
    _process.ours = True


def is_our_process() -> bool:
    return bool(_process.ours)


class _Later(types.ModuleType):
    """A stand-in that imports its module on first use. A name that is only referred to gets a class of that name."""

    named_only = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self.named_only:
            return _named(self.__name__, name)
        return getattr(_real(self.__name__), name)


def _real(name: str) -> types.ModuleType:
    """Returns the real module, even while its stand-in is in sys.modules."""
    if isinstance(sys.modules.get(name), _Later):
        del sys.modules[name]
    return importlib.import_module(name)


def _named(module: str, name: str) -> type:
    """Returns a class of that name. Calling it calls the real class or function."""

    def new(_cls: type, *args: Any, **kwargs: Any) -> Any:
        return getattr(_real(module), name)(*args, **kwargs)

    return type(name, (Exception,), {"__module__": module, "__new__": new})


@contextmanager
def named_only(*names: str) -> Iterator[None]:
    """Replaces these modules by stand-ins within the block, unless they are imported already.

    This is for imports that only refer to names of these modules, in annotations or defaults. A later use gets the real
    module: what was imported in the block keeps the stand-in, which then passes everything on to the real module. A
    submodule of one of these modules cannot be imported in the block. The block affects every thread: imports in
    another thread get the stand-ins, too.
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
    """Imports http.client without TLS, unless ssl is imported already. This saves 5 ms and loading OpenSSL.

    The metadata service uses plain HTTP. A later import of http.client elsewhere gets the complete module.
    """
    if "http.client" in sys.modules or "ssl" in sys.modules or not is_our_process():
        return importlib.import_module("http.client")
    sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        module = importlib.import_module("http.client")
    finally:
        del sys.modules["ssl"]
    # Both ways to import it: `import http.client` and `from http import client`.
    del sys.modules["http.client"]
    del sys.modules["http"].client
    return module


def import_in_thread(*names: str) -> threading.Thread:
    """Starts to import these modules in a thread. An import of one of them then waits for it."""
    thread = threading.Thread(target=_import_all, args=(names,), name="import")
    thread.start()
    return thread


def _import_all(names: Iterable[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001, S110 - it is raised again, and reported, where the module is needed
            pass
