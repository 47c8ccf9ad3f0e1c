# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The command line of osnetd-push."""

import argparse
import sys
from typing import Any, Callable, List, Optional, Tuple

from . import __version__, document, report
from .errors import NoChannel, PushError
from .push import Request, push_all, push_one

_GUESTS_PATIENCE = 60.0  # the longest that the guest waits for another run, or for cloud-init at a boot
_EPILOG = """\
Exit status: the guest's (0 done, 1 a NIC failed, 3 refused, 4 rolled back, 5 not managed, 6 another run at work, 8, 9
nothing to confirm, or too late), or 20 no channel to the guest, 21 no agent answers, 22 agent busy, 23 guest-exec
blocked, 24 cloudinit-osnetd not installed, 25 started but its end not seen, 26 no document, or another server's. The
highest one for several guests.
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="osnetd-push",
        description="Hands a network_data.json to a guest through the QEMU guest agent, and tells what the guest did.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version="osnetd-push " + __version__)
    where = top.add_argument_group("which guest").add_mutually_exclusive_group()
    where.add_argument("--socket", metavar="PATH", help="the guest agent's own socket")
    where.add_argument("--domain", action="append", metavar="NAME", help="a domain of libvirt; may be repeated")
    where.add_argument("--all", action="store_true", help="every running domain of libvirt that has a NIC in FILE")
    _add_document(top.add_argument_group("which document"))
    top.add_argument("--connect", metavar="URI", default="", help="of libvirt, such as qemu:///system")
    top.add_argument("--dry-run", action="store_true", help="show what the guest would do, and change nothing")
    limit = "the guest takes it back after so many seconds, unless --confirm comes before"
    top.add_argument("--confirm-within", type=_seconds_to_confirm, metavar="SECONDS", help=limit)
    top.add_argument("--json", action="store_true", help="print JSON: a list with an object for each guest")
    wait = "wait so long for each guest, and for the end of FILE (300)"
    top.add_argument("--timeout", type=_seconds, default=300.0, metavar="SECONDS", help=wait)
    top.add_argument("--jobs", type=int, default=16, metavar="N", help="so many guests side by side (16)")
    return top


def _add_document(group: Any) -> None:
    group.add_argument(
        "file", metavar="FILE", nargs="?", help="network_data.json, plain or base64; - for standard input"
    )
    group.add_argument("--server", metavar="ID|NAME", help="instead: make it from the cloud's API (openstacksdk)")
    group.add_argument("--os-cloud", metavar="NAME", default="", help="the cloud, of clouds.yaml ($OS_CLOUD)")
    group.add_argument("--static", action="store_true", help="with --server: DHCP's addresses are static")
    group.add_argument("--print", action="store_true", help="with --server: print the document, send nothing")
    group.add_argument("--confirm", action="store_true", help="no document: confirm what --confirm-within has pushed")
    group.add_argument("--forget", action="store_true", help="no document: drop what was pushed before")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError("not a number of seconds: %s" % text)
    return value


def _seconds_to_confirm(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 86400:  # what the guest takes
        raise argparse.ArgumentTypeError("not a number of seconds from 0.1 to 86400: %s" % text)
    return value


def _words(args: Any) -> Tuple[str, ...]:
    """What cloudinit-osnetd is called with in the guest."""
    output = ("--json",) if args.json else ()
    if args.dry_run:
        return ("plan", "--stdin", "--diff", *output)
    # The guest gives up before we do, so that nothing is done after we have given up.
    patience = ("--timeout", "%g" % min(_GUESTS_PATIENCE, args.timeout / 2))
    if args.confirm:
        return ("confirm", *patience, *output)
    limit = ("--confirm-within", "%g" % args.confirm_within) if args.confirm_within else ()
    return ("apply", "--forget" if args.forget else "--stdin", *limit, *patience, *output)


def _channels(args: Any, server_id: str) -> List[Tuple[str, Any]]:
    """server_id: of the server whose document is sent; its domain has that UUID, where no guest is named."""
    if args.socket:
        from .socket_channel import SocketChannel

        return [(args.socket, SocketChannel(args.socket))]
    from . import domain_channel

    return domain_channel.channels(domain_channel.connect(args.connect), args.domain or [server_id], args.all)


def _documents(args: Any, read: bytes, channels: List[Tuple[str, Any]]) -> Callable[[str], bytes]:
    """The one document for each target. Nobody has named those of --all: each has to be in the document."""
    by_name = dict(channels)

    def of(target: str) -> bytes:
        if args.all:
            document.check_names_a_nic_of(target, read, by_name[target].macs())
        return read

    return of


def _run(args: Any) -> int:
    if args.server:
        from . import cloud

        server_id, read = cloud.server(args.os_cloud, args.server, args.static)
    else:
        server_id, read = "", document.read(args.file, args.timeout) if args.file else b""
    if args.print:
        report.show_document(read)
        return 0
    channels = _channels(args, server_id)
    if not channels:
        raise NoChannel("no domain is running")
    request = Request(_words(args), _documents(args, read, channels), args.timeout)
    if len(channels) == 1 and not args.all:
        outcomes = [push_one(*channels[0], request)]
        if not args.json:
            report.show_one(outcomes[0])
    else:
        outcomes = []
        for outcome in push_all(channels, request, args.jobs):
            outcomes.append(outcome)
            if not args.json:
                report.show_block(outcome)
        if not args.json:
            report.show_summary(outcomes)
    if args.json:
        order = [target for target, _channel in channels]
        report.show_json(sorted(outcomes, key=lambda outcome: order.index(outcome.target)))
    return report.worst(outcomes)


def _problem(args: Any) -> str:
    """What is wrong with the arguments together, "" for nothing."""
    what = [bool(one) for one in (args.file, args.server, args.confirm, args.forget)]
    if sum(what) != 1:
        return "one of FILE, --server, --confirm and --forget is needed"
    if not args.server and (args.static or args.print or args.os_cloud):
        return "--static, --print and --os-cloud go with --server"
    if (args.confirm or args.forget) and (args.dry_run or args.confirm_within):
        return "--dry-run and --confirm-within go with a document"
    if args.dry_run and args.confirm_within:
        return "--dry-run changes nothing that --confirm-within could take back"
    if not (args.socket or args.domain or args.all or args.server):
        return "one of --socket, --domain and --all is needed"
    if args.all and not args.file:
        return "--all goes with FILE, which tells the domains"
    if args.server and len(args.domain or ()) > 1:
        return "--server makes the document of one guest"
    return ""


def main(argv: Optional[List[str]] = None) -> int:
    top = parser()
    args = top.parse_args(argv)
    problem = _problem(args)
    if problem:
        top.error(problem)
    try:
        return _run(args)
    except PushError as exc:
        sys.stderr.write("osnetd-push: %s\n" % exc)
        return exc.code
    except KeyboardInterrupt:
        sys.stderr.write("osnetd-push: interrupted; what was started in a guest goes on there\n")
        return 130
