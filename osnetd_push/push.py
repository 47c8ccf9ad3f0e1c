# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""One request to many guests, side by side: what is run, and what each of them answered."""

import concurrent.futures
import time
from typing import Any, Callable, Iterator, NamedTuple, Sequence, Tuple

from . import guest
from .errors import PushError

# The guest's own exit statuses (its manual page), as words; a number that is not here is told as it is.
_WORDS = {
    0: "done",
    1: "a NIC failed, or is left alone because its file was edited",
    2: "its package is older and does not know this request, or it is a Windows server that refused it",
    3: "refused, nothing was changed",
    4: "rolled back",
    5: "not managed, nothing was changed",
    6: "another run did not end in time, nothing was changed",
    7: "something would be done",
    8: "nothing to confirm",
    9: "too late, the push was taken back",
    70: "internal error in the guest",
}


class Outcome(NamedTuple):
    """What became of one guest. `error` is "" where the guest answered; `code` is the exit status."""

    target: str
    code: int
    out: str = ""
    err: str = ""
    error: str = ""

    @property
    def summary(self) -> str:
        return "no answer" if self.error else _WORDS.get(self.code, "exit status %d" % self.code)


class Request(NamedTuple):
    """words: of cloudinit-osnetd in the guest. documents: target to what the guest reads; it may raise a PushError."""

    words: Tuple[str, ...]
    document: Callable[[str], bytes]
    timeout: float  # seconds for each guest, from the start of its conversation


def push_one(target: str, channel: Any, request: Request) -> Outcome:
    """Talks with one guest. `channel` is a PushError where there is none."""
    if isinstance(channel, PushError):
        return Outcome(target, channel.code, error=str(channel))
    try:
        document = request.document(target)
        deadline = time.monotonic() + request.timeout
        try:
            channel.open(deadline)
            answer = guest.run(channel, request.words, document, deadline)
        finally:
            channel.close()
    except PushError as exc:
        return Outcome(target, exc.code, error=str(exc))
    return Outcome(target, answer.code, answer.out, answer.err)


def push_all(channels: Sequence[Tuple[str, Any]], request: Request, jobs: int) -> Iterator[Outcome]:
    """Yields the outcomes as they come."""
    with concurrent.futures.ThreadPoolExecutor(max(1, jobs)) as pool:
        waiting = [pool.submit(push_one, target, channel, request) for target, channel in channels]
        for future in concurrent.futures.as_completed(waiting):
            yield future.result()
