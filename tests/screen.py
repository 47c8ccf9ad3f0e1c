# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What the demo prints: headings, lines and tables; with rich on a terminal where it is installed, plain everywhere else."""

from __future__ import annotations

import sys
from typing import Any, Sequence

TICK, CROSS = "✔", "✘"

try:
    from rich.console import Console
    from rich.table import Table
except ImportError:
    Console = Table = None  # type: ignore[assignment,misc]

Row = Sequence[str]


class Screen:
    """Standard output. A cell may have several lines; the first column of a table is a tick, a cross or empty."""

    def __init__(self) -> None:
        self._rich: Any = None
        if Console is not None and sys.stdout.isatty():
            self._rich = Console(highlight=False, soft_wrap=False)

    def heading(self, text: str) -> None:
        if self._rich:
            self._rich.print()
            self._rich.rule(f"[bold]{_literal(text)}", align="left")
        else:
            print(f"\n== {text}", flush=True)

    def say(self, text: str) -> None:
        if self._rich:
            self._rich.print(_literal(text))
        else:
            print(text, flush=True)

    def verdict(self, good: bool, text: str) -> None:
        """A line with a tick or a cross before it."""
        mark = TICK if good else CROSS
        if self._rich:
            self._rich.print(f"[bold {'green' if good else 'red'}]{mark}[/] {_literal(text)}")
        else:
            print(f"{_plain(mark)} {text}", flush=True)

    def table(self, columns: Row, rows: Sequence[Row]) -> None:
        if self._rich:
            self._rich.print(_rich_table(columns, rows))
        else:
            print("\n".join(_plain_table(columns, rows)), flush=True)


def _rich_table(columns: Row, rows: Sequence[Row]) -> Any:
    table = Table(show_lines=True)
    for column in columns:
        table.add_column(column)
    for row in rows:
        style = {TICK: "green", CROSS: "red"}.get(row[0], "default")
        table.add_row(f"[bold {style}]{row[0]}[/]", *(_literal(cell) for cell in row[1:]))
    return table


def _plain_table(columns: Row, rows: Sequence[Row]) -> list[str]:
    """Columns as wide as their widest line, rows apart from each other by a rule."""
    table = [[cell.split("\n") for cell in row] for row in [columns, *([_plain(row[0]), *row[1:]] for row in rows)]]
    widths = [max(len(line) for row in table for line in row[column]) for column in range(len(columns))]
    rule = "-+-".join("-" * width for width in widths)
    lines = []
    for row in table:
        for number in range(max(len(cell) for cell in row)):
            cells = [cell[number] if number < len(cell) else "" for cell in row]
            lines.append(" | ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())
        lines.append(rule)
    return lines


def _plain(mark: str) -> str:
    """Marks that any terminal and log can show."""
    encoding = (sys.stdout.encoding or "ascii").lower()
    return mark if encoding.startswith("utf") else {TICK: "ok", CROSS: "WRONG"}.get(mark, mark)


def _literal(text: str) -> str:
    """Square brackets are markup to rich."""
    return text.replace("[", "\\[")
