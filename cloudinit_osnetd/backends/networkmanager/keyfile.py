# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""NetworkManager's keyfiles: nm-settings-keyfile(5). Reads them, and sets values without changing other lines. Pure."""

import re
from typing import Dict, List, Optional, Tuple

DIRECTORY = "/etc/NetworkManager/system-connections"
PREFIX, SUFFIX = "cloud-init-", ".nmconnection"
_NUMBERED = re.compile(r"(address|addresses|route|routes)(\d*)\Z")

Values = Dict[str, Dict[str, str]]  # by section and key


def path_of(name: str) -> str:
    return "%s/%s%s%s" % (DIRECTORY, PREFIX, name, SUFFIX)


def parsed(text: str) -> Values:
    """Returns the values by section and key; of several values of a key the last one."""
    found: Values = {}
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            found.setdefault(section, {})
        elif line and line[0] not in "#;" and "=" in line:
            key, _, value = line.partition("=")
            found.setdefault(section, {})[key.strip()] = value.strip()
    return found


def value(values: Values, section: str, key: str, default: str = "") -> str:
    return values.get(section, {}).get(key, default)


def numbered(section: Dict[str, str], what: str) -> List[Tuple[str, str]]:
    """Returns key and value of the `address`, `address1`, `addresses1` ... keys, or of the `route` keys, in order."""
    found = []
    for key, text in section.items():
        match = _NUMBERED.match(key)
        if match and match.group(1) in (what, what + "es", what + "s"):
            found.append((int(match.group(2) or 0), key, text))
    return [(key, text) for _number, key, text in sorted(found)]


def words(text: str) -> List[str]:
    """Returns the items of a list, which are separated by ";" and in old files by ",", without empty ones."""
    return [word.strip() for word in re.split("[;,]", text) if word.strip()]


def with_values(text: str, section: str, changes: Dict[str, Optional[str]]) -> str:
    """Returns `text` with these values in a section; None removes a key. New keys are added at the section's end."""
    left = dict(changes)
    lines: List[str] = []
    inside = False
    end = None  # after the last line with text in the section
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            inside = stripped[1:-1] == section
        elif inside and "=" in stripped and stripped[0] not in "#;":
            key = stripped.partition("=")[0].strip()
            if key in changes:
                new = left.pop(key, None)
                if new is None:
                    continue
                line = "%s=%s" % (key, new)
        lines.append(line)
        if inside and stripped:
            end = len(lines)
    added = ["%s=%s" % (key, new) for key, new in left.items() if new is not None]
    if not added:
        return "\n".join(lines) + "\n"
    if end is None:
        while lines and not lines[-1].strip():
            lines.pop()
        lines += ([""] if lines else []) + ["[%s]" % section] + added
    else:
        lines[end:end] = added
    return "\n".join(lines) + "\n"
