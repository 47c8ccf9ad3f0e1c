# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The command line: arguments, logging, exit codes. Each subcommand is a module of commands/."""

import importlib
import logging
import os
import sys
import types
from typing import TYPE_CHECKING, Any, List, Optional, cast

from . import __version__
from .system import lazy_imports

if TYPE_CHECKING:
    import argparse

LOG = logging.getLogger(__name__)
EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
EXIT_INTERNAL = os.EX_SOFTWARE  # not 1: the service is restarted, and the events are still queued

_COMMANDS = (
    ("status", "show each NIC, its state and the reason"),
    ("plan", "show what reconcile would do, without doing it"),
    ("reconcile", "configure every NIC as its port says, now"),
    ("apply", "configure the NICs as a given network_data.json says"),
    ("confirm", "keep what `apply --confirm-within` has put in force"),
    ("rollback", "put the NICs back as they were before a run, until a source says something new for them"),
    ("history", "list the runs that changed something, newest first"),
    ("show", "show what a run decided and did, why, and the difference of each file"),
    ("doctor", "check what goes wrong in the field, and say what to do about it"),
    ("announce", "report the runs that were not reported yet to cloud-init's reporting framework"),
    ("boot", "early boot: update the configuration on disk, offline"),
    ("datasource", "give cloud-init's cached datasource the class of our override, or its own again"),
)


_EPILOG = """\
examples:
  cloudinit-osnetd status         is every NIC as its port says, and if not, why
  cloudinit-osnetd plan --diff    what a reconcile would change in each file
  cloudinit-osnetd reconcile      a port was edited in OpenStack: do it now
  cloudinit-osnetd doctor         something is wrong: what, and what to do

`cloudinit-osnetd COMMAND --help` shows a command's options. For the states, the
settings (osnetd: in cloud.cfg.d) and the files, see man 8 and man 5
cloudinit-osnetd.
Exit status: 0 success, 1 failed for at least one NIC, 2 usage error,
70 internal error; single commands have others.
"""


class _JournalFormatter(logging.Formatter):
    """Formats as `<N>message`: the journal reads the priority from the prefix (SyslogLevelPrefix=)."""

    _LEVELS = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))

    def format(self, record: logging.LogRecord) -> str:
        level = next(n for bound, n in self._LEVELS if record.levelno >= bound)
        text = super().format(record)
        return "\n".join("<%d>%s" % (level, line) for line in text.splitlines())


def _is_journal() -> bool:
    """True if standard error is the journal's stream, as for our units.

    What a guest agent starts has the variable from the agent's unit, and a pipe of the agent's.
    """
    try:
        stream = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == "%d:%d" % (stream.st_dev, stream.st_ino)


def _logging(verbose: bool) -> None:
    handler = logging.StreamHandler()
    if _is_journal():
        handler.setFormatter(_JournalFormatter())
        level = logging.INFO
    else:
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        handler.addFilter(lambda record: verbose or not getattr(record, "in_output", False))
        level = logging.WARNING
    # Not the root logger: up to 23.3 importing cloud-init removes its handlers, which may happen during a run.
    ours, cloud_inits = logging.getLogger(__package__), logging.getLogger("cloudinit")
    ours.handlers[:] = cloud_inits.handlers[:] = [handler]
    ours.setLevel(logging.DEBUG if verbose else level)
    # cloud-init logs debug messages to every handler.
    cloud_inits.setLevel(logging.WARNING)


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 86400:
        raise ValueError(text)
    return seconds


def _patience(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86400:  # nor "nan", with which a wait has no end
        raise ValueError(text)
    return seconds


_seconds.__name__ = _patience.__name__ = "number of seconds"
_at_least_one.__name__ = "number"  # argparse: "invalid number value: '0'"


def parser(only: str = "") -> "argparse.ArgumentParser":
    """Returns the parser of all commands, or of `only` one: each costs a run of the service half a millisecond."""
    import argparse

    def formatter(prog: str) -> argparse.HelpFormatter:
        """argparse makes one for each argument, and to find the width by itself imports shutil with all compression."""
        width = os.get_terminal_size().columns if os.isatty(1) else 80
        return argparse.HelpFormatter(prog, width=max(width, 40) - 2)

    class TopFormatter(argparse.RawDescriptionHelpFormatter):
        """Keeps the lines of the examples. At most 80 columns, whatever the terminal has."""

        def __init__(self, prog: str) -> None:
            super().__init__(prog, width=78)

    top = argparse.ArgumentParser(
        formatter_class=TopFormatter,
        prog="cloudinit-osnetd",
        description="Configures the NICs of an OpenStack server as its ports are attached, detached\nand edited.",
        epilog=_EPILOG,
    )
    top.add_argument("--version", action="version", version="cloudinit-osnetd " + __version__)
    top.add_argument("-v", "--verbose", action="store_true", help="log what is done")
    subs = top.add_subparsers(dest="command", metavar="COMMAND", prog=top.prog)
    subs.required = True
    for name, summary in _COMMANDS:
        if only in ("", name):
            description = summary[0].upper() + summary[1:] + "."
            sub = subs.add_parser(name, help=summary, description=description, formatter_class=formatter)
            _add_options(sub, name)
    return top


def _add_options(sub: "argparse.ArgumentParser", name: str) -> None:
    if name in ("status", "plan", "reconcile", "apply", "confirm", "rollback", "history", "show", "doctor"):
        sub.add_argument("--json", action="store_true", help="print JSON")
    if name == "status":
        watch = "show it again every so many seconds (2), until Ctrl-C"
        sub.add_argument("--watch", nargs="?", type=_seconds, const=2.0, metavar="SECONDS", help=watch)
    if name in ("plan", "reconcile"):
        sub.add_argument("--force", action="store_true", help="overwrite the edits of other software or people")
    if name == "reconcile":
        sub.add_argument("--queue", action="store_true", help="serve the queued events (used by the service)")
        sub.add_argument("--wait", action="store_true", help="wait for NICs that no source lists yet")
    if name == "plan":
        sub.add_argument("--diff", action="store_true", help="show the difference of each file")
        sub.add_argument("--exit-code", action="store_true", help="end with 7 if anything would be done")
        which = sub.add_mutually_exclusive_group()
        which.add_argument("--file", metavar="FILE", help="show what `apply --file FILE` would do")
        which.add_argument("--stdin", action="store_true", help="show what `apply --stdin` would do")
    if name == "apply":
        which = sub.add_mutually_exclusive_group(required=True)
        which.add_argument("document", nargs="?", help="network_data.json in base64, or as it is")
        which.add_argument("--file", metavar="FILE", help="read it from a file")
        which.add_argument("--stdin", action="store_true", help="read it from standard input")
        which.add_argument("--forget", action="store_true", help="forget what was pushed before")
        limit = "take it back after so many seconds, or at a reboot, unless `cloudinit-osnetd confirm` comes before"
        sub.add_argument("--confirm-within", type=_seconds, default=0.0, metavar="SECONDS", help=limit)
    if name in ("apply", "confirm", "rollback"):
        others = ", or for cloud-init at a boot" if name == "apply" else ""
        wait = "wait up to so many seconds for another run%s (60)" % others
        sub.add_argument("--timeout", type=_patience, default=60.0, metavar="SECONDS", help=wait)
    if name == "history":
        sub.add_argument("-n", "--number", type=_at_least_one, default=20, metavar="N", help="list N runs (20)")
    if name in ("show", "rollback"):
        later = "; later runs are undone too" if name == "rollback" else ""
        which_run = "its number in history (the last one)" + later
        sub.add_argument("run", nargs="?", type=int, metavar="RUN", help=which_run)
    if name == "doctor":
        bundle = "write what a bug report needs to a file, without user-data, keys and passwords"
        sub.add_argument("--bundle", metavar="FILE", help=bundle)
    if name == "datasource":
        sub.add_argument("to", choices=("adopt", "release"))


def _of_unit(words: List[str]) -> "Optional[argparse.Namespace]":
    """Returns the arguments of what our units run, without the parser: it takes longer than most runs' own work."""
    if words not in (["boot"], ["reconcile", "--queue"]):
        return None
    args: Any = types.SimpleNamespace(command=words[0], verbose=False, queue="--queue" in words)
    return cast("argparse.Namespace", args)


def main(argv: Optional[List[str]] = None) -> int:
    lazy_imports.in_our_process()
    words = sys.argv[1:] if argv is None else argv
    args = _of_unit(words) or parser(words[0] if words and words[0] in dict(_COMMANDS) else "").parse_args(words)
    _logging(args.verbose)
    if os.geteuid() != 0:
        sys.stderr.write("cloudinit-osnetd: must be run as root\n")
        return EXIT_FAILED
    # Not the umask of the operator's shell: networkd's user must read what we and netplan's generator write.
    os.umask(0o022)
    command = importlib.import_module("cloudinit_osnetd.commands." + args.command)
    try:
        return int(command.main(args))
    except OSError as exc:
        # A full or a read-only disk, for example. The message names the file.
        LOG.error("%s failed: %s", args.command, exc, exc_info=args.verbose)
        return EXIT_INTERNAL
    except Exception:
        LOG.exception("%s failed", args.command)
        return EXIT_INTERNAL
