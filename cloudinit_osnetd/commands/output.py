# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Output as a table or as JSON."""

import json
from typing import Any, Sequence


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, sort_keys=True))


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints columns as wide as their widest cell; the last one is not padded."""
    cells = [[str(cell) if cell != "" else "-" for cell in row] for row in [list(header), *map(list, rows)]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
