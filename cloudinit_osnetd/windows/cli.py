# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`python -m cloudinit_osnetd.windows`: the command line on Windows.

Exit status: 0 done, or nothing to do, also where a NIC of the document is absent; 1 a NIC failed, or a link of the
document is bad, and the others are done; 2 wrong usage, or a document that is refused; 6 another run, or standard
input, did not end in time; 70 it broke off. Nothing was changed where it is 2 or 6.
"""

import argparse
import errno
import json
import os
import sys
import threading
from typing import Any, List

from ..core import pushed_document
from ..core.network_data import NetworkData
from ..core.pushed_document import Refused
from . import apply, config, install, service, state, store

EXIT_FAILED, EXIT_REFUSED, EXIT_BUSY, EXIT_BROKE_OFF = 1, 2, 6, 70
_AT_ONCE = 1 << 16
_LEAST_SECONDS = 5.0  # `--timeout 0` means not to wait for another run; the writer of a pipe needs its moment


def _patience(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86400:  # nor "nan", with which a wait has no end
        raise ValueError(text)
    return seconds


_patience.__name__ = "number of seconds"  # argparse: "invalid number of seconds value: 'nan'"


def _parser() -> argparse.ArgumentParser:
    about = "Configures the NICs of a Windows server."
    parser = argparse.ArgumentParser(prog="cloudinit_osnetd.windows", description=about)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, what in (("apply", "put a network_data.json in force"), ("plan", "as apply --dry-run")):
        one = commands.add_parser(name, help=what)
        source = one.add_mutually_exclusive_group(required=True)
        source.add_argument("document", nargs="?", metavar="BASE64", help="the document in base64")
        source.add_argument("--stdin", action="store_true", help="read it from standard input, plain or in base64")
        source.add_argument("--file", metavar="F", help="read it from a file, plain or in base64")
        # osnetd-push asks every guest for a --diff; there are no files here that could differ.
        one.add_argument("--dry-run", "--diff", action="store_true", help="print the commands, and run none")
        one.add_argument("--rename", action="store_true", help="give each NIC the name or the id of its link")
        wait = "wait so long for the document and for another run (60)"
        one.add_argument("--timeout", type=_patience, default=60.0, metavar="S", help=wait)
        one.add_argument("--json", action="store_true", help="print the result as JSON")
    for name, what in (("install", "make and start the service"), ("uninstall", "remove what install made")):
        one = commands.add_parser(name, help=what)
        one.add_argument("--cloudbase-init", metavar="CONF", help="a cloudbase-init.conf, for the plugin in it")
    commands.add_parser("service", help="what the service control manager starts")
    return parser


def main(argv: List[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        _take_any_name(stream)
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command in ("apply", "plan"):
        args.dry_run = args.dry_run or args.command == "plan"
        return _apply(args)
    if args.command == "service":
        return service.serve()
    if args.command:
        return _install(args)
    parser.print_usage(sys.stderr)
    return EXIT_REFUSED


def _take_any_name(stream: Any) -> None:
    """A NIC's name may be in any script: a program (the guest agent) gets UTF-8, a console what its code page has."""
    if hasattr(stream, "reconfigure"):  # Python 3.7 and later
        stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


def _install(args: argparse.Namespace) -> int:
    work = install.install if args.command == "install" else install.uninstall
    try:
        work(args.cloudbase_init, print)
    except (install.Failed, OSError) as exc:
        sys.stderr.write("cloudinit-osnetd: %s\n" % exc)
        return EXIT_FAILED
    return 0


def _read(args: argparse.Namespace) -> bytes:
    if args.file is not None:
        return pushed_document.limited(lambda size: _from_file(args.file, size), args.file or "--file ''")
    if args.stdin:
        return pushed_document.limited(lambda size: _from_stdin(size, args.timeout), "standard input")
    return str(args.document).encode("utf-8", "replace")


def _from_file(path: str, size: int) -> bytes:
    with open(path, "rb") as fh:
        return fh.read(size)


def _from_stdin(size: int, seconds: float) -> bytes:
    """Returns what standard input gives until its end. Raises store.Busy if that does not come in time.

    A thread reads, because Windows cannot wait for a pipe with a time limit; it is left behind, and ends with us.
    """
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed")
    fd, found, failed = sys.stdin.fileno(), [b""], []

    def read() -> None:
        try:
            while len(found[0]) < size:
                more = os.read(fd, min(_AT_ONCE, size - len(found[0])))
                if not more:
                    return
                found[0] += more
        except OSError as exc:
            failed.append(exc)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    seconds = max(_LEAST_SECONDS, seconds)
    reader.join(seconds)
    if reader.is_alive():
        raise store.Busy("standard input: it does not end: %d bytes came within %g s" % (len(found[0]), seconds))
    if failed:
        raise failed[0]
    return found[0]


def _apply(args: argparse.Namespace) -> int:
    try:
        raw = _read(args)
        settings = config.load()
        data = pushed_document.parsed(raw, lambda: state.read().macs_by_name())
        names = config.names(pushed_document.decoded(raw)) if args.rename or settings.rename else {}
        with store.locked(args.timeout):
            outcomes = apply.push(data, apply.Options(args.dry_run, settings.ignore, names))
    except Refused as refused:
        _tell_refused(args, refused.problems)
        return EXIT_REFUSED
    except config.BadConfig as exc:
        _tell_refused(args, [str(exc)])
        return EXIT_REFUSED
    except store.Busy as exc:
        _tell(args, {"busy": str(exc)}, "nothing was changed: %s" % exc)
        return EXIT_BUSY
    except OSError as exc:
        _tell(args, {"error": str(exc)}, "it broke off: %s" % exc)
        return EXIT_BROKE_OFF
    return _report(args, data, outcomes)


def _report(args: argparse.Namespace, data: NetworkData, outcomes: List[apply.Outcome]) -> int:
    faults = pushed_document.fault_texts(data)
    if args.json:
        print(json.dumps({"faults": faults, "links": [outcome.as_json() for outcome in outcomes]}, indent=1))
    else:
        for fault in faults:
            print("bad: %s" % fault)
        for outcome in outcomes:
            _print(outcome)
        if not any(outcome.done for outcome in outcomes):
            print("nothing to do")
    return EXIT_FAILED if faults or any(outcome.problems for outcome in outcomes) else 0


def _print(outcome: apply.Outcome) -> None:
    who = "%s (%s)" % (outcome.name, outcome.mac) if outcome.name else outcome.key
    print("%s: %s" % (who, "failed" if outcome.problems else "ok" if outcome.name or outcome.done else "absent"))
    for mark, texts in (("+", outcome.done), ("!", outcome.problems), ("-", outcome.findings)):
        for text in texts:
            print("  %s %s" % (mark, text))


def _tell_refused(args: argparse.Namespace, problems: List[str]) -> None:
    _tell(args, {"refused": problems}, "refused, nothing was changed: %s" % "\n  ".join(problems))


def _tell(args: argparse.Namespace, report: Any, text: str) -> None:
    if args.json:
        print(json.dumps(report, indent=1))
    else:
        sys.stderr.write("cloudinit-osnetd: %s\n" % text)
