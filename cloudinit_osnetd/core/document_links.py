# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Parses the `links` of a network_data: the device of each link, the links that it depends on, and its errors."""

from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from . import bonding
from .entry import LEAST_MTU_IPV6, Entry, Network, make_key
from .fields import DataError, device_name, json_object, mac_address, needed, number, object_list, word

_KINDS = ("phy", "bond", "vlan")  # in this order a link depends only on kinds before its own


MacsByName = Callable[[], Mapping[str, str]]


def no_nics() -> Mapping[str, str]:
    """The default of `macs`: no NIC is known by name."""
    return {}


class Fault(NamedTuple):
    """An error in a document.

    `key` is empty if the link cannot be identified (its MAC is invalid), `link` if the item belongs to no link.
    """

    key: str
    path: str  # of the field, as in links[2].mtu
    problem: str  # with the value
    link: str = ""  # the link's id in the document
    costs: bool = True  # True: the link is refused; False: only this field is ignored
    told_mac: str = ""  # which the link names, if it has no key

    @property
    def mac(self) -> str:
        return self.key.partition("/")[0]

    @property
    def text(self) -> str:
        """The error with the link's id and MAC, because the index in the path alone does not identify the port."""
        names = ["link %s" % self.link] if self.link else []
        mac = self.mac or self.told_mac
        names += ["MAC %s" % mac] if mac else []
        return "%s%s: %s" % (self.path, " (%s)" % ", ".join(names) if names else "", self.problem)


class Link(NamedTuple):
    """A link with its key; the other fields are still raw."""

    key: str
    kind: str
    mac: str
    mac_told: bool
    vlan_id: Optional[int]
    raw: Dict[str, Any]
    path: str


def _mac_field(kind: str) -> str:
    return "vlan_mac_address" if kind == "vlan" else "ethernet_mac_address"


def _told_mac(raw: Any, kind: str) -> str:
    """Returns the MAC that a link names, whatever else is wrong with it; empty if it names none."""
    try:
        return mac_address(json_object(raw, "").get(_mac_field(kind)), "")
    except DataError:
        return ""


class Links:
    """The links of a document by id, and the references between them."""

    def __init__(self, raw_links: Sequence[Any], macs: MacsByName = no_nics) -> None:
        """`macs` returns the MACs of the present NICs by name, for links that have only a name."""
        self._macs = macs
        self.faults: List[Fault] = []
        self.by_id: Dict[str, Link] = {}
        self.refused: Dict[str, str] = {}  # id -> why the link cannot be identified
        self._paths: Dict[str, str] = {}  # by key
        numbered = [("links[%d]" % i, raw) for i, raw in enumerate(raw_links)]
        for kind in _KINDS:
            for path, raw in numbered:
                if _kind(raw) == kind:
                    self._take(raw, path, kind)

    @property
    def bad(self) -> Set[str]:
        """The keys that the document lists with an error."""
        return {fault.key for fault in self.faults if fault.key and fault.costs}

    def nameless(self) -> Tuple[Tuple[str, Tuple[str, ...]], ...]:
        """Returns the bonds without a MAC, with or without other errors: their keys, and those of their members."""
        bonds = [link for link in self.by_id.values() if link.kind == "bond" and not link.mac_told]
        return tuple((link.key, self.members_of(link.raw, link.path)) for link in bonds)

    def ports(self) -> Dict[str, str]:
        """Returns the id of each link's port by key: Nova's `vif_id`, which is Neutron's id of the port."""
        ids = {link.key: link.raw.get("vif_id") for link in self.by_id.values()}
        return {key: shown(port) for key, port in ids.items() if isinstance(port, str) and port}

    def _take(self, raw: Any, path: str, kind: str) -> None:
        link_id = ""
        try:
            link_id = _link_id(needed(json_object(raw, path), "id", path), path)
            link = self._identify(raw, path, kind)
        except DataError as exc:
            self.faults.append(Fault("", exc.path, exc.problem, shown(link_id), told_mac=_told_mac(raw, kind)))
            if link_id:
                self.refused.setdefault(link_id, str(exc))
            return
        if link.key in self._paths:
            problem = "the same link as %s" % self._paths[link.key]
            self.faults.append(Fault(link.key, path, problem, shown(link_id)))
            self.refused.setdefault(link_id, "%s: %s" % (path, problem))
            return
        self._paths[link.key] = path
        # Documents with two links of one id exist (shakenfist#767). The first link keeps the id and its
        # networks.
        if link_id in self.by_id:
            self.faults.append(Fault(link.key, path + ".id", "id %s is taken" % shown(link_id), shown(link_id)))
            return
        self.by_id[link_id] = link

    def _identify(self, raw: Dict[str, Any], path: str, kind: str) -> Link:
        """Returns a link with its key. Without a MAC it has that of a member, of its parent, or of its name's NIC.

        A physical link that has neither a MAC nor a name has that of the NIC that is called as its id, if there is one.
        """
        vlan_id: Optional[int] = None
        field = _mac_field(kind)
        if kind == "vlan":
            vlan_id = number(needed(raw, "vlan_id", path), path + ".vlan_id", 0, 4094)
        has_mac = raw.get(field) not in (None, "")
        if kind == "phy" and not has_mac and raw.get("name") not in (None, ""):
            has_mac, mac = True, self._mac_of_name(raw["name"], path + ".name")
        elif kind == "phy" and not has_mac and isinstance(raw["id"], str) and raw["id"] in self._macs():
            has_mac, mac = True, self._macs()[raw["id"]]  # Cluster API for Metal3: the id is the NIC's name
        elif kind == "phy" or has_mac:
            has_mac = True
            mac = mac_address(needed(raw, field, path), "%s.%s" % (path, field))
        elif kind == "vlan":
            mac = self.parent_of(raw, path).partition("/")[0]
        else:
            members = self.members_of(raw, path)
            if not members:
                raise DataError(path + "." + field, "missing, and there are no members to identify the bond by")
            mac = members[0].partition("/")[0]
        return Link(make_key(kind, mac, vlan_id), kind, mac, has_mac, vlan_id, raw, path)

    def _mac_of_name(self, name: Any, path: str) -> str:
        """Returns the MAC of the NIC with this name, as cloud-init reads a link's name."""
        mac = self._macs().get(name) if isinstance(name, str) else None
        if mac is None:
            raise DataError(path, "no NIC has this name, and the link has no MAC: %.60r" % (name,))
        return mac

    def parent_of(self, raw: Dict[str, Any], path: str) -> str:
        return self.key_of(needed(raw, "vlan_link", path), path + ".vlan_link", ("phy", "bond"))

    def members_of(self, raw: Dict[str, Any], path: str) -> Tuple[str, ...]:
        named = object_list(needed(raw, "bond_links", path), path + ".bond_links")
        keys = {self.key_of(one, "%s.bond_links[%d]" % (path, i), ("phy",)) for i, one in enumerate(named)}
        return tuple(sorted(keys))

    def key_of(self, link_id: Any, path: str, kinds: Sequence[str] = _KINDS) -> str:
        is_id = isinstance(link_id, (str, int)) and not isinstance(link_id, bool)
        link = self.by_id.get(str(link_id)) if is_id else None
        if link is None:
            why = self.refused.get(link_id, "") if isinstance(link_id, str) else ""
            text = "the link %.60r is refused (%s)" if why else "no link has the id %.60r%s"
            raise DataError(path, text % (link_id, why))
        if link.kind not in kinds:
            raise DataError(path, "the link %.60r is none of %s" % (link_id, ", ".join(kinds)))
        return link.key

    def entries(self, networks: Dict[str, List[Network]]) -> Iterator[Entry]:
        """Yields the entries of the links without errors, and notes new errors. `networks` is by key."""
        bad = self.bad
        bond_of: Dict[str, str] = {}  # by the key of a member
        for link_id, link in self.by_id.items():
            if link.key in bad:
                continue
            try:
                entry = self._entry(link_id, link, networks.get(link.key, []))
            except DataError as exc:
                self.faults.append(Fault(link.key, exc.path, exc.problem, shown(link_id)))
                continue
            taken = sorted(bond_of.keys() & set(entry.members))
            if taken:
                problem = "%s is a member of %s already" % (taken[0].partition("/")[0], shown(bond_of[taken[0]]))
                self.faults.append(Fault(link.key, link.path + ".bond_links", problem, shown(link_id)))
                continue
            bond_of.update(dict.fromkeys(entry.members, link_id))
            yield entry

    def _entry(self, link_id: str, link: Link, networks: List[Network]) -> Entry:
        raw, path = link.raw, link.path
        type_word = raw.get("type")
        return Entry(
            kind=link.kind,
            mac=link.mac,
            # Consumers of Nova's documents read a missing or null type as "bridge": a physical link.
            type="phy" if type_word in (None, "") else word(type_word, path + ".type"),
            mtu=self._mtu_for(link_id, link, networks),
            vlan_id=link.vlan_id,
            parent=self.parent_of(raw, path) if link.kind == "vlan" else "",
            members=self.members_of(raw, path) if link.kind == "bond" else (),
            params=bonding.options(raw, path) if link.kind == "bond" else (),
            networks=tuple(dict.fromkeys(networks)),
            mac_told=link.mac_told,
            name=self._bond_name(link_id, link) if link.kind == "bond" else "",
        )

    def _mtu_for(self, link_id: str, link: Link, networks: Sequence[Network]) -> Optional[int]:
        """Returns the link's MTU; None too if IPv6 would be lost with it."""
        path = link.path + ".mtu"
        mtu = _mtu(link.raw.get("mtu"), path)
        if mtu is None or mtu >= LEAST_MTU_IPV6 or not any(net.is_ipv6 for net in networks):
            return mtu
        problem = "%d is less than IPv6 needs (%d): the kernel would take the link's IPv6 away" % (mtu, LEAST_MTU_IPV6)
        self.faults.append(Fault(link.key, path, problem, shown(link_id), costs=False))
        return None

    def _bond_name(self, link_id: str, link: Link) -> str:
        name = link.raw.get("name")
        if name in (None, "") or device_name(name):
            return str(name or "")
        problem = "not a valid device name: %.60r; the bond gets another name" % (name,)
        self.faults.append(Fault(link.key, link.path + ".name", problem, shown(link_id), costs=False))
        return ""


def shown(link_id: str) -> str:
    """Returns an id in a form that is safe in a log line."""
    return link_id if link_id.isprintable() and len(link_id) <= 60 else "%.60r" % (link_id,)


def _kind(raw: Any) -> str:
    return {"bond": "bond", "vlan": "vlan"}.get(str(raw.get("type")), "phy") if isinstance(raw, dict) else "phy"


def _link_id(value: Any, path: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise DataError(path + ".id", "not a string: %.60r" % (value,))
    return str(value)


def _mtu(value: Any, path: str) -> Optional[int]:
    """Returns the MTU; None for 0 too, which a Neutron that does not advertise the MTU sends."""
    missing = value in (None, "") or (value in (0, "0") and value is not False)
    return None if missing else number(value, path, 68, 65535)
