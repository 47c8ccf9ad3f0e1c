# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The meaning of a netplan definition: netplan-yaml(5), with its older and newer keys."""

import json
from typing import Any, Dict, Iterator, List

from ...core import meaning
from . import yaml_file

_CLIENTS = ("dhcp4", "dhcp6")


def of(text: str) -> meaning.Meaning:
    """The meaning of a part, as yaml_file.split() returns it."""
    group, _name, body = yaml_file.only(text)
    facts = {"kind " + group}
    for key, value in body.items():
        facts.update(_lines(str(key), value) if value is not None else ())
    return frozenset(facts)


def _lines(key: str, value: Any) -> Iterator[str]:
    if key == "addresses":
        yield from map(_address, _list(value))
    elif key == "routes":
        yield from map(_route, _list(value))
    elif key == "interfaces":
        yield from ("member " + str(one) for one in _list(value))
    elif isinstance(value, dict):
        yield from _of_mapping(key, value)
    elif key in ("gateway4", "gateway6"):
        yield meaning.route("0.0.0.0/0" if key == "gateway4" else "::/0", str(value))
    elif key in _CLIENTS:
        yield from [key] if meaning.truth(str(value)) != "no" else []
    elif key == "accept-ra":
        yield "accept-ra " + meaning.truth(str(value))
    elif key == "mtu" and str(value) in ("0", ""):
        return  # not facts
    elif key == "macaddress":
        yield "mac " + str(value).lower()
    elif value is not False:
        yield "%s %s" % (key, _plain(value))


def _of_mapping(key: str, value: Dict[str, Any]) -> Iterator[str]:
    if key == "nameservers":
        yield from meaning.in_order("dns", [meaning.address(str(one)) for one in _list(value.get("addresses"))])
        yield from meaning.in_order("search", map(str, _list(value.get("search"))))
    elif key == "match":
        yield from ("match %s %s" % ({"macaddress": "mac"}.get(k, k), str(v).lower()) for k, v in value.items())
    elif key == "parameters":
        # Up to 24 cloud-init writes what the document leaves empty.
        yield from (meaning.bond_option(str(k), _words(v)) for k, v in value.items() if v not in (None, ""))
    else:
        yield "%s %s" % (key, _plain(value))


def _address(one: Any) -> str:
    if isinstance(one, dict) and len(one) == 1:  # with options
        ((cidr, options),) = one.items()
        return "address %s %s" % (meaning.address(str(cidr)), _plain(options))
    return "address " + meaning.address(str(one))


def _route(one: Any) -> str:
    if not isinstance(one, dict):
        return "route " + _plain(one)
    left: Dict[str, Any] = {str(key): value for key, value in one.items() if value is not None}
    via, metric = str(left.pop("via", "")), left.pop("metric", None)
    to = meaning.network(str(left.pop("to", "default")), "", via)
    if left.get("scope") == "link" and not via:
        del left["scope"]  # on-link, as is any route without a gateway
    more = ["onlink"] if meaning.truth(str(left.pop("on-link", "no"))) == "yes" else []
    more += ["%s=%s" % (key, _plain(value)) for key, value in left.items()]
    return meaning.route(to, via, None if metric is None else str(metric), *more)


def _list(value: Any) -> List[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _words(value: Any) -> str:
    return " ".join(map(_plain, value)) if isinstance(value, list) else _plain(value)


def _plain(value: Any) -> str:
    """Returns a scalar as netplan reads it: 1500 equals "1500", and true equals yes."""
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True, default=str)
    return meaning.truth(str(value)) if isinstance(value, bool) else str(value)
