# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""python3 -m tests.lab: a lab for a person. docs/lab.md shows a session."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from typing import List

from tests.lab import Cloud, Container, LabError, commands, control, run
from tests.lab.progress import say


def main(argv: List[str]) -> int:
    args = commands.parser().parse_args(argv)
    try:
        if args.verb in ("up", "shell"):
            return _start(args)
        own = argv[2:] if argv[0] == "--run" else argv
        ok, text = control.ask(own, args.run)
    except (LabError, PermissionError) as error:
        print(error, file=sys.stderr)
        return 1
    if ok and args.verb == "guest" and args.action == "shell":
        command = text.split("\0")
        os.execvp(command[0], command)
    print(text, end="", file=sys.stdout if ok else sys.stderr)
    return 0 if ok else 1


def _start(args: argparse.Namespace) -> int:
    """A cloud with two networks, a server with one NIC on the first, its guest booted."""
    with Cloud() as cloud:
        blue = cloud.network("blue", "10.90.0.0/24", "10.90.0.1", dhcp=args.dhcp, dns=["10.90.0.1"])
        cloud.network("red", "10.91.0.0/24", "10.91.0.1", dhcp=True, dns=["10.91.0.1"])
        server = cloud.server("web")
        server.create_port(blue)
        package = not args.no_package
        with Container(cloud, server, args.suite, args.backend, package, args.trusted_cache) as guest:
            guest.boot()
            say(f"{args.suite} with {args.backend} is up after {guest.boot_seconds:.1f} s, as run {run.current().id}")
            with control.serving(commands.Lab(cloud, server, guest)):
                say("from another terminal: python3 -m tests.lab status | port attach | port detach | ... (--help)")
                if args.verb == "shell":
                    return subprocess.run(guest.shell_argv()).returncode
                while True:
                    time.sleep(3600)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
