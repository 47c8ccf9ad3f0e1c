# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What the operator sees: the guest's own words for one guest, a block for each of several, or JSON."""

import json
import sys
from typing import Any, Dict, Sequence

from .push import Outcome


def printable(text: str) -> str:
    """Returns a guest's text without what would control the terminal: a guest need not be trusted."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode("ascii") for c in text)


def show_one(outcome: Outcome) -> None:
    """Prints the guest's answer to where the guest printed it."""
    sys.stdout.write(printable(outcome.out))
    sys.stdout.flush()
    sys.stderr.write(printable(outcome.err))
    if outcome.error:
        sys.stderr.write("osnetd-push: %s\n" % printable(outcome.error))


def show_block(outcome: Outcome) -> None:
    """Prints one of several guests: a line that says how it ended, then its answer, indented."""
    lines = ["%s: %s" % (outcome.target, outcome.summary)]
    lines += ["  " + line for line in printable(outcome.out + outcome.err).splitlines()]
    lines += ["  " + printable(outcome.error)] if outcome.error else []
    print("\n".join(lines), flush=True)


def show_summary(outcomes: Sequence[Outcome]) -> None:
    bad = [outcome for outcome in outcomes if outcome.code]
    text = "%d guests: %d done" % (len(outcomes), len(outcomes) - len(bad))
    text += "".join("; %s: %s" % (outcome.target, outcome.summary) for outcome in bad)
    print(text)


def show_json(outcomes: Sequence[Outcome]) -> None:
    """Prints a list with an object for each guest, also where there is one guest only."""
    print(json.dumps([_as_json(outcome) for outcome in outcomes], indent=2, sort_keys=True))


def _as_json(outcome: Outcome) -> Dict[str, Any]:
    found = {"target": outcome.target, "exit": outcome.code, "outcome": outcome.summary}  # type: Dict[str, Any]
    if outcome.error:
        found["error"] = outcome.error
        return found
    try:
        found["answer"] = json.loads(outcome.out)
    except (ValueError, RecursionError):
        found["answer"] = None
        found["output"] = outcome.out
    if outcome.err:
        found["messages"] = outcome.err.splitlines()
    return found


def show_document(document: bytes) -> None:
    print(document.decode("utf-8"))


def worst(outcomes: Sequence[Outcome]) -> int:
    """The highest exit status: what a guest said is below what kept a guest from saying anything."""
    return max([outcome.code for outcome in outcomes], default=0)
