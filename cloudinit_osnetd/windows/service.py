# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The Windows service that follows the ports.

Imported late: pywin32, because only cloudbase-init's Python has it; the rest, because Windows waits 30 s for a service.
"""

import ctypes
import logging
import os
from importlib import import_module
from typing import Any

LOG = logging.getLogger(__name__)

NAME = "cloudinit-osnetd"
TITLE = "OpenStack port follower (cloudinit-osnetd)"
_CLOUDBASE = "cloudbase-init"
_RUNNING = (2, 4)  # SERVICE_START_PENDING, SERVICE_RUNNING
_LOG_BYTES, _LOGS = 1 << 20, 3


class _Overlapped(ctypes.Structure):
    _fields_ = (
        ("internal", ctypes.c_void_p),
        ("internal_high", ctypes.c_void_p),
        ("offset", ctypes.c_void_p),
        ("event", ctypes.c_void_p),
    )


class Notifier:
    """An event that Windows sets when an interface or an address changes. It need never do so: a poll is behind it."""

    def __init__(self) -> None:
        from . import iphelper

        self._win32event: Any = import_module("win32event")
        self._helper = iphelper.dll("iphlpapi")
        self.event = self._win32event.CreateEvent(None, 1, 0, None)
        self._overlapped = _Overlapped(event=int(self.event))
        self._handle = ctypes.c_void_p()
        kind = ctypes.WINFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)  # type: ignore[attr-defined]
        self._callback = kind(lambda *_args: self._win32event.SetEvent(self.event))
        self._registered = ctypes.c_void_p()
        family = ctypes.c_uint16(iphelper.AF_UNSPEC)
        self._helper.NotifyIpInterfaceChange(family, self._callback, None, 0, ctypes.byref(self._registered))
        self._ask()

    def _ask(self) -> None:
        """Of addresses; one request gives one event."""
        self._helper.NotifyAddrChange(ctypes.byref(self._handle), ctypes.byref(self._overlapped))

    def again(self) -> None:
        self._win32event.ResetEvent(self.event)
        self._ask()

    def close(self) -> None:
        self._helper.CancelMibChangeNotify2(self._registered)


def _log_to_file() -> None:
    from logging.handlers import RotatingFileHandler

    from . import store

    os.makedirs(store.directory(), exist_ok=True)
    path = os.path.join(store.directory(), "osnetd.log")
    handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_LOGS, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)


def _cloudbase_runs() -> bool:
    """True while cloudbase-init's service runs; it configures NICs too. False where there is none."""
    try:
        status = import_module("win32serviceutil").QueryServiceStatus(_CLOUDBASE)
    except import_module("pywintypes").error:
        return False
    return status[1] in _RUNNING


def _work(stop: Any) -> None:
    """Follows until the event `stop` is set."""
    from . import follow

    win32event: Any = import_module("win32event")
    notifier = Notifier()

    def wait(seconds: float) -> bool:
        handles, milliseconds = [stop, notifier.event], int(seconds * 1000)
        answer: int = win32event.WaitForMultipleObjects(handles, False, milliseconds)
        if answer == win32event.WAIT_OBJECT_0 + 1:
            notifier.again()
        return answer == int(win32event.WAIT_OBJECT_0)

    try:
        waited = False
        while _cloudbase_runs():
            if not waited:
                LOG.info("waiting for cloudbase-init")
                waited = True
            if win32event.WaitForSingleObject(stop, 1000) == win32event.WAIT_OBJECT_0:
                return
        follow.follow(wait)
    finally:
        notifier.close()


def serve() -> int:
    """What the service control manager starts; returns when the service is stopped."""
    servicemanager: Any = import_module("servicemanager")
    win32event: Any = import_module("win32event")
    win32service: Any = import_module("win32service")
    framework: Any = import_module("win32serviceutil").ServiceFramework

    class Service(framework):  # type: ignore[misc]
        _svc_name_, _svc_display_name_ = NAME, TITLE

        def __init__(self, args: Any) -> None:
            super().__init__(args)
            self._stop = win32event.CreateEvent(None, 1, 0, None)

        def SvcStop(self) -> None:  # noqa: N802 - pywin32's name
            self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING)
            win32event.SetEvent(self._stop)

        def SvcDoRun(self) -> None:  # noqa: N802
            _log_to_file()
            LOG.info("started")
            try:
                _work(self._stop)
            except Exception:
                LOG.exception("broke off")  # and Windows starts it again
                raise
            LOG.info("stopped")

    servicemanager.Initialize()
    servicemanager.PrepareToHostSingle(Service)
    servicemanager.StartServiceCtrlDispatcher()
    return 0
