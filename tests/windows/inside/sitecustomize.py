# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The Windows side of the stand-in for netsh.exe: passes the words on, and writes to the registry what netsh would.

Imported by a Python of that name when it starts, which ends here.
"""

import json
import os
import socket
import sys
import winreg

PORT = 8976
sys.pycache_prefix = "C:\\pycache"  # the checkout cannot be written to


def write(key: str, values: dict) -> None:
    with winreg.CreateKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:
        for name, value in values.items():
            winreg.SetValueEx(opened, name, 0, winreg.REG_DWORD if isinstance(value, int) else winreg.REG_SZ, value)


with socket.create_connection(("127.0.0.1", PORT)) as connection:
    connection.sendall((json.dumps(sys.orig_argv[1:]) + "\n").encode())
    answer = json.loads(connection.makefile(encoding="utf-8").readline())
if answer.get("values"):
    from cloudinit_osnetd.windows import iphelper

    (guid,) = (row.guid.text for row in iphelper.interfaces() if row.index == answer["index"])
    service = "Tcpip6" if answer["family"] == "ipv6" else "Tcpip"
    write("SYSTEM\\CurrentControlSet\\Services\\%s\\Parameters\\Interfaces\\%s" % (service, guid), answer["values"])
sys.stdout.write(answer["text"])
sys.stdout.flush()
os._exit(answer["status"])
