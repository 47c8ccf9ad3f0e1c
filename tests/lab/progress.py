# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Lines on standard error that tell a waiting person what the lab is doing, and since when."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import Callable, Iterator

_START = time.monotonic()
_HEARTBEAT_SECONDS = 10


def say(text: str) -> None:
    """Print one line with the time since this process began to use the lab."""
    if not os.environ.get("OSNETD_LAB_QUIET"):
        print(f"[lab {time.monotonic() - _START:6.1f} s] {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(text: str, last_words: Callable[[], str] = str) -> Iterator[None]:
    """Announce a slow step, say every few seconds that it still runs, and say how long it took.

    last_words: what it is at, for whoever has to find out why it never ends.
    """
    began = time.monotonic()
    done = threading.Event()

    def beat() -> None:
        while not done.wait(_HEARTBEAT_SECONDS):
            say(f"{text}: still at it ({time.monotonic() - began:.0f} s) {last_words()}".rstrip())

    say(f"{text} ...")
    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    except BaseException:
        say(f"{text}: failed after {time.monotonic() - began:.1f} s")
        raise
    else:
        say(f"{text}: done in {time.monotonic() - began:.1f} s")
    finally:
        done.set()
