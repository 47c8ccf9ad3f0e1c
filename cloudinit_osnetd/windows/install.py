# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`install` and `uninstall`: the service, the folder of the store, and the plugin in cloudbase-init's file."""

import os
import re
import shutil
import subprocess
import sys
import time
from importlib import import_module
from typing import Any, Callable, List, Optional

from . import service, store

PLUGIN = "cloudinit_osnetd.windows.plugin.OsnetdPlugin"
_STOPPED = 1  # SERVICE_STOPPED
_STOP_SECONDS = 90.0  # a pass that is under way is brought to its end
_MISSING = 1060  # ERROR_SERVICE_DOES_NOT_EXIST
_PLUGINS = re.compile(r"^plugins[ \t]*=.*(?:\n[ \t]+\S.*)*", re.MULTILINE)
# Local System and the Administrators, by their ids: their names are translated.
_RIGHTS = ("*S-1-5-18:(OI)(CI)F", "*S-1-5-32-544:(OI)(CI)F")


class Failed(Exception):
    """The text says what could not be done."""


def command_line() -> str:
    """Returns what starts the service: the Python without a console, beside the one that runs this."""
    python = os.path.join(os.path.dirname(sys.executable), "pythonw.exe")
    if not os.path.exists(python):
        raise Failed("there is no %s" % python)
    return '"%s" -m cloudinit_osnetd.windows service' % python


def install(conf: Optional[str], say: Callable[[str], None]) -> None:
    """May be repeated. `conf`: the path of a cloudbase-init.conf that gets the plugin. Raises Failed."""
    if conf:
        _edit(conf, with_plugin)
        say("plugin in %s" % conf)
    _make_directory()
    say("folder %s" % store.directory())
    win32service, error = _pywin32()
    try:
        _make_service(win32service)
    except error as exc:
        raise Failed("the service could not be made: %s" % exc) from exc
    say("service %s: started, and at each boot" % service.NAME)


def uninstall(conf: Optional[str], say: Callable[[str], None]) -> None:
    """Takes away all that install made; the NICs keep their configuration. Raises Failed."""
    win32service, error = _pywin32()
    try:
        _remove_service(win32service, error)
    except error as exc:
        raise Failed("the service could not be removed: %s" % exc) from exc
    say("service %s: removed" % service.NAME)
    if conf:
        _edit(conf, without_plugin)
        say("plugin out of %s" % conf)
    try:
        if os.path.isdir(store.directory()):
            shutil.rmtree(store.directory())
    except OSError as exc:
        raise Failed("%s could not be removed: %s" % (store.directory(), exc)) from exc
    say("folder %s: removed" % store.directory())


def with_plugin(text: str, defaults: List[str]) -> str:
    """Returns cloudbase-init's file with our plugin as the last. Without a list of plugins it gets the default one."""
    found = _PLUGINS.search(text)
    if found is None:
        line = "plugins=%s\n" % ",".join(defaults + [PLUGIN])
        section = re.search(r"^\[DEFAULT\][ \t]*\n?", text, re.MULTILINE)
        return text[: section.end()] + line + text[section.end() :] if section else "[DEFAULT]\n" + line + text
    if PLUGIN in found.group(0):
        return text
    listed = found.group(0).rstrip().rstrip(",")
    return text[: found.start()] + listed + ("" if listed.endswith("=") else ",") + PLUGIN + text[found.end() :]


def without_plugin(text: str, defaults: List[str]) -> str:
    """The inverse of with_plugin; a list that is the default one again goes too."""
    found = _PLUGINS.search(text)
    if found is None or PLUGIN not in found.group(0):
        return text
    listed = re.sub(r",?\s*%s" % re.escape(PLUGIN), "", found.group(0))
    if listed == "plugins=" + ",".join(defaults):
        return text[: found.start()] + text[found.end() :].lstrip("\n")
    return text[: found.start()] + listed + text[found.end() :]


def _edit(path: str, edit: Callable[[str, List[str]], str]) -> None:
    try:
        with open(path, encoding="utf-8-sig", newline="") as fh:
            before = fh.read()
        ends = "\r\n" if "\r\n" in before else "\n"
        after = edit(before.replace("\r\n", "\n"), _default_plugins()).replace("\n", ends)
        if after != before:
            with open(path + ".new", "w", encoding="utf-8", newline="") as fh:
                fh.write(after)
            os.replace(path + ".new", path)
    except (OSError, ValueError) as exc:
        raise Failed("%s: %s" % (path, exc)) from exc


def _default_plugins() -> List[str]:
    try:
        conf: Any = import_module("cloudbaseinit.conf")
    except ImportError:
        raise Failed("this Python has no cloudbase-init: install the package into cloudbase-init's own") from None
    return list(conf.CONF.plugins)  # nothing is parsed yet: the defaults


def _make_directory() -> None:
    """For nobody else: what is remembered decides what LocalSystem does, and users may make folders in ProgramData."""
    os.makedirs(store.directory(), exist_ok=True)
    words = ["icacls", store.directory(), "/inheritance:r", "/grant:r", *_RIGHTS]
    to = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(words, check=False, **to)  # type: ignore[call-overload]
    if done.returncode:
        raise Failed("icacls: %s" % done.stdout.decode("utf-8", "backslashreplace").strip())


def _pywin32() -> Any:
    try:
        return import_module("win32service"), import_module("pywintypes").error
    except ImportError:
        raise Failed("this Python has no pywin32: install the package into cloudbase-init's own") from None


def _make_service(api: Any) -> None:
    manager = api.OpenSCManager(None, None, api.SC_MANAGER_ALL_ACCESS)
    kind = (api.SERVICE_WIN32_OWN_PROCESS, api.SERVICE_AUTO_START, api.SERVICE_ERROR_NORMAL)
    try:
        names = [name for name, _title, _status in api.EnumServicesStatus(manager)]
        if service.NAME in names:
            handle = api.OpenService(manager, service.NAME, api.SERVICE_ALL_ACCESS)
            api.ChangeServiceConfig(handle, *kind, command_line(), None, 0, None, None, None, service.TITLE)
        else:
            rest = (command_line(), None, 0, None, None, None)
            handle = api.CreateService(manager, service.NAME, service.TITLE, api.SERVICE_ALL_ACCESS, *kind, *rest)
        restart = [(api.SC_ACTION_RESTART, 60000)] * 3
        actions = {"ResetPeriod": 86400, "RebootMsg": "", "Command": "", "Actions": restart}
        api.ChangeServiceConfig2(handle, api.SERVICE_CONFIG_FAILURE_ACTIONS, actions)
        # After what a boot starts first, cloudbase-init among it.
        api.ChangeServiceConfig2(handle, api.SERVICE_CONFIG_DELAYED_AUTO_START_INFO, True)
        if api.QueryServiceStatus(handle)[1] == _STOPPED:
            api.StartService(handle, None)
        api.CloseServiceHandle(handle)
    finally:
        api.CloseServiceHandle(manager)


def _remove_service(api: Any, error: Any) -> None:
    manager = api.OpenSCManager(None, None, api.SC_MANAGER_ALL_ACCESS)
    try:
        handle = api.OpenService(manager, service.NAME, api.SERVICE_ALL_ACCESS)
    except error as exc:
        if exc.winerror == _MISSING:
            return
        raise
    finally:
        api.CloseServiceHandle(manager)
    try:
        if api.QueryServiceStatus(handle)[1] != _STOPPED:
            api.ControlService(handle, api.SERVICE_CONTROL_STOP)
        until = time.monotonic() + _STOP_SECONDS
        while api.QueryServiceStatus(handle)[1] != _STOPPED:
            if time.monotonic() > until:
                raise Failed("the service did not stop in %d s" % _STOP_SECONDS)
            time.sleep(0.2)
        api.DeleteService(handle)
    finally:
        api.CloseServiceHandle(handle)
