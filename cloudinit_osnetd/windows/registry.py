# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The registry: what IP Helper does not show of a NIC. Written only where netsh has no command."""

import importlib
from typing import Any, Dict, NamedTuple, Tuple

TCPIP = "SYSTEM\\CurrentControlSet\\Services\\Tcpip\\Parameters"
TCPIP6 = "SYSTEM\\CurrentControlSet\\Services\\Tcpip6\\Parameters"


class Value(NamedTuple):
    """A text to write: key below HKEY_LOCAL_MACHINE, name, text."""

    key: str
    name: str
    text: str

    @property
    def line(self) -> str:
        return "registry %s\\%s = %s" % (self.key, self.name, self.text or "(empty)")


def interface_key(guid: str, service: str = TCPIP) -> str:
    return "%s\\Interfaces\\%s" % (service, guid)


def _winreg() -> Any:
    return importlib.import_module("winreg")  # not a plain import: this module loads anywhere, to be tested


def values(key: str) -> Dict[str, Any]:
    """Returns a key's values by name; none if there is no such key."""
    winreg = _winreg()
    found = {}
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:
            for number in range(winreg.QueryInfoKey(opened)[1]):
                name, value, _type = winreg.EnumValue(opened, number)
                found[name] = value
    except FileNotFoundError:
        return {}
    return found


def write(value: Value) -> None:
    """Raises OSError."""
    winreg = _winreg()
    with winreg.CreateKey(winreg.HKEY_LOCAL_MACHINE, value.key) as opened:
        winreg.SetValueEx(opened, value.name, 0, winreg.REG_SZ, value.text)


def words(value: Any) -> Tuple[str, ...]:
    """Returns the parts of a text with commas or spaces between them, as Windows writes either."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else ()
