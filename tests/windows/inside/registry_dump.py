# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Prints each value below HKLM\\SYSTEM and HKLM\\SOFTWARE, or below the keys that are named, as a line of JSON.

It is [key, name, value]; a key without a value has name and value null.
"""

import json
import sys
import winreg

REST = "SOFTWARE\\Classes"  # ten thousand keys of Wine's own


def walk(path):
    if path == REST:
        return
    try:
        key = winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path)
        winreg.QueryInfoKey(key)
    except OSError:
        return  # performance counters look like keys and are none
    with key:
        keys, values, _changed = winreg.QueryInfoKey(key)
        print(json.dumps([path, None, None]))
        for number in range(values):
            name, value, _type = winreg.EnumValue(key, number)
            print(json.dumps([path, name, repr(value)]))
        below = [winreg.EnumKey(key, number) for number in range(keys)]
    for name in below:
        walk(path + "\\" + name)


for top in sys.argv[1:] or ["SYSTEM", "SOFTWARE"]:
    walk(top)
