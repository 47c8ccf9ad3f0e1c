# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Output as a table or as JSON; on a terminal with colour, and never wider than the terminal."""

import json
import os
import re
import sys
import time
from typing import Any, List, Optional, Sequence

_COLOURS = {"red": "31;1", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
_LEAST_LAST_COLUMN = 20
_ESCAPE = re.compile("\033\\[[0-9;]*m")


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, sort_keys=True))


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints columns as wide as their widest cell; the last one is not padded."""
    for line in table(header, rows, width()):
        print(line)


def width() -> int:
    """Returns the columns of the terminal; 0 if lines may be of any length, because nobody set a width."""
    told = os.environ.get("COLUMNS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    if not sys.stdout.isatty():
        return 0
    import shutil  # 3 ms, and the service prints nothing

    return shutil.get_terminal_size().columns


def coloured(text: str, colour: str) -> str:
    """Returns the text in a colour of _COLOURS if this is a terminal with colours, and NO_COLOR is not set."""
    if not colour or not text or os.environ.get("NO_COLOR") or os.environ.get("TERM") in (None, "", "dumb"):
        return text
    return "\033[%sm%s\033[0m" % (_COLOURS[colour], text) if sys.stdout.isatty() else text


def printable(text: str) -> str:
    """Returns the text without what would control the terminal: values come from documents and files of others."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def columns(text: str) -> int:
    """Returns the columns that a text takes on a terminal."""
    return sum(_columns_of(char) for char in _ESCAPE.sub("", text))


def _columns_of(char: str) -> int:
    if char < "\x7f":
        return 1
    import unicodedata

    return 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1


def complain(text: str) -> None:
    """Writes to standard error why a command could not be carried out."""
    sys.stderr.write("\n".join(wrapped(printable("cloudinit-osnetd: " + text), width(), indent="    ")) + "\n")


def padded(text: str, wide: int) -> str:
    return text + " " * (wide - columns(text))


def wrapped(text: str, wide: int, first: str = "", indent: Optional[str] = None) -> List[str]:
    """Returns the text in lines of at most `wide` columns (0: one line), after `first`, later ones after `indent`."""
    indent = " " * columns(first) if indent is None else indent
    if columns(indent) >= wide - 1:
        indent = ""
    if not wide or columns(first + text) <= wide:
        return [(first + text).rstrip()]
    lines, line, begins = [], first, True
    for word in text.split():
        if not begins and columns(line) + 1 + columns(word) > wide:
            lines.append(line)
            line, begins = indent, True
        line += word if begins else " " + word
        begins = False
        while columns(line) > wide:  # a path, for example
            fits = _fitting(line, wide)
            lines.append(line[:fits])
            line = indent + line[fits:].lstrip()
    return [line.rstrip() for line in [*lines, line]]


def _fitting(text: str, wide: int) -> int:
    """Returns how many characters of a text fit, at least one."""
    used = 0
    for place, char in enumerate(text):
        used += _columns_of(char)
        if used > wide:
            return max(place, 1)
    return len(text)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], wide: int) -> List[str]:
    """Returns the lines of a table; `wide` as in table_rows."""
    return [line for row in table_rows(header, rows, wide) for line in row]


def table_rows(header: Sequence[str], rows: Sequence[Sequence[Any]], wide: int) -> List[List[str]]:
    """Returns the lines of the header and of each row of a table of at most `wide` columns (0: any).

    The last column is wrapped. If there is no room for it, the cells of a row follow each other over several lines.
    """
    cells = [[printable(str(cell)) if cell != "" else "-" for cell in row] for row in [list(header), *map(list, rows)]]
    widths = [max(columns(row[i]) for row in cells) for i in range(len(header))]
    before = sum(widths[:-1]) + 2 * (len(widths) - 1)
    found = []
    for row in cells:
        padding = [padded(cell, wide_cell) for cell, wide_cell in zip(row, widths)]
        if not wide or before + min(widths[-1], _LEAST_LAST_COLUMN) <= wide:
            found.append(wrapped(row[-1], wide, "".join(cell + "  " for cell in padding[:-1])))
        else:
            found.append(_stacked(padding, wide))
    return found


def _stacked(cells: Sequence[str], wide: int) -> List[str]:
    """Returns the cells of a row, as many on a line as fit; all lines but the first are indented."""
    lines, line = [], ""
    for cell in cells:
        if line.strip() and columns(line) + columns(cell.rstrip()) > wide:
            lines.append(line.rstrip())
            line = "    "
        if columns(line) + columns(cell.rstrip()) > wide:
            *full, line = wrapped(cell.strip(), wide, line, "    ")
            lines += full
            line += "  "
        else:
            line += cell + "  "
    return [*lines, line.rstrip()]


def time_text(when: float) -> str:
    """Returns a time (seconds since the epoch) in the server's time zone; "-" if it is none, in a damaged file."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
    except (OverflowError, ValueError, OSError):
        return "-"


def age_text(seconds: float) -> str:
    """Returns how long ago something was, in one unit."""
    for name, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return "%d %s ago" % (seconds // size, name)
    return "%d s ago" % max(0.0, seconds)
