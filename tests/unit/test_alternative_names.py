# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The alternative names of links, out of a dump of the kernel's."""

import struct

from cloudinit_osnetd.kernel import alternative_names


def attribute(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def link(name, *others):
    nested = b"".join(attribute(53, other.encode() + b"\0") for other in others)
    listed = attribute(52 | 0x8000, nested) if others else b""  # NLA_F_NESTED
    return b"\0" * 16 + attribute(3, name.encode() + b"\0") + listed


def test_links_have_none_one_or_several():
    dump = [link("lo"), link("ens3", "enp0s3", "enxfa163e000001"), link("bond0"), link("ens4", "enp0s4")]
    assert alternative_names.parsed(dump) == {"ens3": ("enp0s3", "enxfa163e000001"), "ens4": ("enp0s4",)}


def test_the_kernel_is_asked_once_and_only_where_the_name_does_not_do(monkeypatch):
    asked = []
    monkeypatch.setattr(alternative_names, "of_links", lambda: asked.append(1) or {"ens3": ("enp0s3",)})
    names = alternative_names.LinkNames()
    assert "ens3" in names.of("ens3") and not asked
    assert (list(names.of("ens3")), list(names.of("ens9"))) == (["ens3", "enp0s3"], ["ens9"])
    assert asked == [1]


def test_the_kernel_of_this_machine_answers():
    assert isinstance(alternative_names.of_links(), dict)
