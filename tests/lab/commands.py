# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What can be asked of a running lab, by a person or a test: the verbs of `python3 -m tests.lab`."""

from __future__ import annotations

import argparse
import json
from typing import List, NamedTuple, Sequence

from tests.lab.call import LabError
from tests.lab.cloud import Cloud
from tests.lab.container import Container
from tests.lab.ports import Network, Port
from tests.lab.server import Server


class Lab(NamedTuple):
    """A cloud with one server and its guest."""

    cloud: Cloud
    server: Server
    guest: Container

    def network(self, name: str) -> Network:
        for network in self.cloud.networks:
            if network.name == name:
                return network
        raise LabError(f"no network {name!r}: there are {', '.join(network.name for network in self.cloud.networks)}")

    def port(self, word: str) -> Port:
        """A port by its MAC, the beginning of its id, or the name that its NIC has in the guest."""
        for port in self.ports():
            if word.lower() in (port.mac.lower(), self.nic(port)) or port.id.startswith(word):
                return port
        raise LabError(f"no port {word!r}: see `python3 -m tests.lab status`")

    def ports(self) -> List[Port]:
        """The server's ports, then those whose NICs are still plugged."""
        return self.server.ports + [port for port in self.guest.plugged if port not in self.server.ports]

    def nic(self, port: Port) -> str:
        return (self.guest.nic(port) if self.guest.is_on else None) or "-"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python3 -m tests.lab", description="A simulated OpenStack with a real guest in it."
    )
    top.add_argument("--run", metavar="ID", help="which running lab to talk to, if there is more than one")
    verbs = top.add_subparsers(dest="verb", required=True)

    for verb, text in (
        ("up", "start a lab and keep it until Ctrl-C"),
        ("shell", "the same, with a shell in its guest"),
    ):
        start = verbs.add_parser(verb, help=text)
        start.add_argument("--suite", default="trixie")
        start.add_argument("--backend", default="networkd")
        start.add_argument("--no-package", action="store_true", help="cloud-init alone, without the package under test")
        start.add_argument("--trusted-cache", action="store_true", help="cloud-init keeps its datasource over reboots")
        start.add_argument("--dhcp", action="store_true", help="the first NIC gets its address by DHCP")

    _add(verbs, "status", _status, "the cloud's ports beside the guest's NICs")
    _add(verbs, "data", _data, "network_data.json as the metadata service tells it now")

    port = verbs.add_parser("port", help="attach, detach and edit ports").add_subparsers(
        dest="port_verb", required=True
    )
    attach = _add(port, "attach", _attach, "create a port and plug its NIC")
    attach.add_argument("network", nargs="?", default="blue")
    attach.add_argument("--mac")
    attach.add_argument("--name", help="the kernel's name of the NIC (default: the next ensN)")
    attach.add_argument("--ip", action="append", help="a fixed IP (default: a random one of each subnet)")
    attach.add_argument("--no-plug", action="store_true", help="tell the metadata service only")
    detach = _add(port, "detach", _detach, "unplug a NIC and delete its port")
    detach.add_argument("port")
    detach.add_argument("--keep-listed", action="store_true", help="the metadata service goes on listing it")
    detach.add_argument("--keep-plugged", action="store_true", help="the NIC stays")
    edit = _add(port, "edit", _edit, "change what the cloud has of a port")
    edit.add_argument("port")
    edit.add_argument("--ip", action="append")
    edit.add_argument("--mtu", type=int)
    edit.add_argument("--dns", action="append")
    edit.add_argument("--route", action="append", metavar="DESTINATION,GATEWAY")

    network = _add(verbs, "network", _network, "add a network")
    network.add_argument("name")
    network.add_argument("cidr")
    network.add_argument("--gateway")
    network.add_argument("--dhcp", action="store_true")
    network.add_argument("--dns", action="append", default=[])
    network.add_argument("--mtu", type=int, default=1450)

    service = _add(verbs, "metadata", _metadata, "let the metadata service fail, lag or work")
    service.add_argument("action", choices=["up", "refuse", "drop", "freeze", "thaw", "requests"])
    answer = _add(verbs, "answer", _answer, "have the metadata service answer something else")
    answer.add_argument("pattern", help="of the path, for instance '*/network_data.json'")
    answer.add_argument("--status", type=int, default=200)
    answer.add_argument("--body", type=str.encode)
    answer.add_argument("--delay", type=float, default=0.0, help="seconds")
    answer.add_argument("--times", type=int, help="how often (default: for ever)")

    guest = _add(verbs, "guest", _guest, "switch the guest off and on, or look into it")
    guest.add_argument("action", choices=["boot", "reboot", "poweroff", "cut", "console", "shell", "rebuild-drive"])
    run = _add(verbs, "run", _run, "run a command in the guest")
    run.add_argument("command", nargs=argparse.REMAINDER)
    return top


def _add(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, function: object, text: str
) -> argparse.ArgumentParser:
    added = verbs.add_parser(name, help=text)
    added.set_defaults(function=function)
    return added


def table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _status(lab: Lab, _args: argparse.Namespace) -> str:
    told = json.dumps(lab.server.told())
    rows = [("PORT", "MAC", "NETWORK", "FIXED IPS", "TOLD", "NIC")]
    for port in lab.ports():
        told_of = "yes" if port.mac in told else "no"
        rows.append((port.id[:8], port.mac, port.network.name, " ".join(port.fixed_ips) or "-", told_of, lab.nic(port)))
    view = lab.guest.run("ip -brief address; ip route", check=False).stdout if lab.guest.is_on else "the guest is off\n"
    return f"{table(rows)}\n\n{view}"


def _data(lab: Lab, _args: argparse.Namespace) -> str:
    return json.dumps(lab.server.told(), indent=1) + "\n"


def _attach(lab: Lab, args: argparse.Namespace) -> str:
    port = lab.server.create_port(lab.network(args.network), args.mac, args.ip)
    if args.no_plug:
        return f"{port}, not plugged\n"
    return f"{port} as {lab.guest.plug(port, args.name)}\n"


def _detach(lab: Lab, args: argparse.Namespace) -> str:
    port = lab.port(args.port)
    if not args.keep_plugged and port in lab.guest.plugged:
        lab.guest.unplug(port)
    if not args.keep_listed and port in lab.server.ports:
        lab.server.delete_port(port)
    return f"{port} detached\n"


def _edit(lab: Lab, args: argparse.Namespace) -> str:
    port = lab.port(args.port)
    routes = [
        (destination, gateway) for destination, _comma, gateway in (one.partition(",") for one in args.route or [])
    ]
    lab.server.edit_port(port, args.ip, args.mtu, routes if args.route else None, args.dns)
    return f"{port}\n"


def _network(lab: Lab, args: argparse.Namespace) -> str:
    lab.cloud.network(args.name, args.cidr, args.gateway, args.dhcp, args.dns, args.mtu)
    return f"network {args.name}\n"


def _metadata(lab: Lab, args: argparse.Namespace) -> str:
    if args.action == "requests":
        return "".join(f"{r.time:.3f} {r.network} {r.source} {r.status} {r.path}\n" for r in lab.cloud.requests())
    if args.action == "up":
        lab.cloud.metadata_up()
        lab.cloud.metadata.clear_overrides()
    elif args.action == "freeze":
        lab.server.freeze_metadata()
    elif args.action == "thaw":
        lab.server.thaw_metadata()
    else:
        lab.cloud.metadata_down(args.action)
    return ""


def _answer(lab: Lab, args: argparse.Namespace) -> str:
    lab.cloud.override(args.pattern, status=args.status, body=args.body, delay=args.delay, times=args.times)
    return ""


def _guest(lab: Lab, args: argparse.Namespace) -> str:
    guest = lab.guest
    if args.action == "console":
        return guest.console()
    if args.action == "shell":
        return "\0".join(guest.shell_argv())  # the asker runs it, on its own terminal
    actions = {
        "boot": guest.boot,
        "reboot": guest.reboot,
        "poweroff": guest.poweroff,
        "cut": lambda: guest.poweroff(hard=True),
        "rebuild-drive": guest.rebuild_drive,
    }
    actions[args.action]()
    return f"up after {guest.boot_seconds:.1f} s\n" if args.action in ("boot", "reboot") else ""


def _run(lab: Lab, args: argparse.Namespace) -> str:
    done = lab.guest.run(" ".join(args.command), check=False, timeout=600)
    return done.stdout + done.stderr
