# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A service of cloudbase-init's name that does nothing until it is stopped: `make`, `remove`, or what Windows starts."""

import os
import sys
import time

import servicemanager
import win32event
import win32service
import win32serviceutil

NAME = "cloudbase-init"


class Idle(win32serviceutil.ServiceFramework):
    _svc_name_ = _svc_display_name_ = NAME

    def __init__(self, args):
        super().__init__(args)
        self._stop = win32event.CreateEvent(None, 1, 0, None)

    def SvcStop(self):  # noqa: N802 - pywin32's name
        self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING)
        win32event.SetEvent(self._stop)

    def SvcDoRun(self):  # noqa: N802
        win32event.WaitForSingleObject(self._stop, win32event.INFINITE)


def make():
    manager = win32service.OpenSCManager(None, None, win32service.SC_MANAGER_ALL_ACCESS)
    python = os.path.join(os.path.dirname(sys.executable), "pythonw.exe")
    kind = (win32service.SERVICE_WIN32_OWN_PROCESS, win32service.SERVICE_DEMAND_START, win32service.SERVICE_ERROR_NORMAL)
    line = '"%s" -m tests.windows.inside.idle_service' % python
    handle = win32service.CreateService(manager, NAME, NAME, win32service.SERVICE_ALL_ACCESS, *kind, line, None, 0, None, None, None)
    win32service.StartService(handle, None)
    while win32service.QueryServiceStatus(handle)[1] != win32service.SERVICE_RUNNING:
        time.sleep(0.1)


def remove():
    manager = win32service.OpenSCManager(None, None, win32service.SC_MANAGER_ALL_ACCESS)
    handle = win32service.OpenService(manager, NAME, win32service.SERVICE_ALL_ACCESS)
    win32service.ControlService(handle, win32service.SERVICE_CONTROL_STOP)
    while win32service.QueryServiceStatus(handle)[1] != win32service.SERVICE_STOPPED:
        time.sleep(0.1)
    win32service.DeleteService(handle)


if __name__ == "__main__":
    if sys.argv[1:]:
        {"make": make, "remove": remove}[sys.argv[1]]()
    else:
        servicemanager.Initialize()
        servicemanager.PrepareToHostSingle(Idle)
        servicemanager.StartServiceCtrlDispatcher()
