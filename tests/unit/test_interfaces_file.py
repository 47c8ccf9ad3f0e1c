# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""interfaces_file: a NIC's section is replaced, and everything else is kept byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd.backends.eni.interfaces_file import join, meaning, split, stanzas

CLOUD = """\
# This file is generated from information provided by the datasource.

auto lo
iface lo inet loopback

auto ens3
iface ens3 inet static
    address 10.0.0.5/24

# control-alias ens3
iface ens3 inet6 static
    address fd00::5/64

auto ens4
iface ens4 inet dhcp
"""
ENS4 = "auto ens4\niface ens4 inet dhcp\n"
ENS9 = "auto ens9\niface ens9 inet manual\n    mtu 1450\n"

# -- sections -------------------------------------------------------------------------------------------


def test_a_section_is_all_stanzas_of_a_nic():
    sections = split(CLOUD)
    assert sorted(sections) == ["ens3", "ens4", "lo"]
    assert sections["ens4"] == ENS4
    assert "10.0.0.5/24" in sections["ens3"]
    assert "fd00::5/64" in sections["ens3"]


@pytest.mark.parametrize(
    ("text", "owners"),
    [
        ("", []),
        ("auto ens3 ens4\n", []),
        ("auto ens3 \\\n  ens4\n", []),
        ("auto \\\n ens3\n", ["ens3"]),
        ("au\\\nto ens3\n", ["ens3"]),
        ("allow-hotplug ens3\n", ["ens3"]),
        ("source /etc/network/interfaces.d/*\n", []),
        ("mapping ens3\n  script x\n", []),
        ("iface ens3 inet manual\nsource x\n  up y\n", ["ens3"]),
        ("  iface  ens3   inet manual\n", ["ens3"]),
        ("# note \\\nauto ens3\n", ["ens3"]),
        ("iface ens3 inet manual\n up x \\\nauto ens4\n", ["ens3"]),
        ("iface ens3 inet manual\n up x \\\n# y \\\nauto ens4\n", ["ens3"]),
        (" \\\niface ens3 inet manual\n", ["ens3"]),
        ("up x\x0cauto ens3\n", []),
        ("# note\u2028auto ens3\n", []),
        ("iface\n", []),
    ],
)
def test_stanzas_are_told_as_ifupdown_tells_them(text, owners):
    """Each of these was put to ifquery (Debian 11 and 12)."""
    assert sorted(split(text)) == owners


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (ENS9, "auto  ens9\n\n# note\niface ens9 inet   manual\n\tmtu 1450", True),
        (ENS9, ENS9.replace("auto ens9", "auto \\\n ens9"), True),
        (ENS9, ENS9.replace("1450", "1400"), False),
        (ENS9, ENS9.replace("    mtu", "    #mtu"), False),
        (ENS9, ENS9 + "    up x\n", False),
    ],
)
def test_two_sections_mean_the_same_but_for_blanks_and_comments(one, other, same):
    assert (meaning(one) == meaning(other)) == same


# -- put in and taken out ---------------------------------------------------------------------------------


def test_a_section_is_replaced_where_it_stands():
    assert join(CLOUD, None, {"ens3": "auto ens3\niface ens3 inet dhcp\n"}) == (
        "# This file is generated from information provided by the datasource.\n"
        "\n"
        "auto lo\n"
        "iface lo inet loopback\n"
        "\n"
        "auto ens3\n"
        "iface ens3 inet dhcp\n"
        "\n"
        "auto ens4\n"
        "iface ens4 inet dhcp\n"
    )


def test_a_new_section_goes_to_the_end():
    assert join(CLOUD, None, {"ens9": ENS9}) == CLOUD + "\n" + ENS9


def test_attached_and_detached_the_file_is_as_it_was():
    assert join(join(CLOUD, None, {"ens9": ENS9}), None, {"ens9": None}) == CLOUD


def test_a_new_file_takes_the_header_and_the_loopback_of_the_template():
    out = join(None, CLOUD, {"ens9": ENS9})
    assert out.startswith(CLOUD[: CLOUD.index("auto ens3")])
    assert sorted(split(out)) == ["ens9", "lo"]


def test_removing_what_is_not_there_changes_nothing():
    assert join(CLOUD, None, {"ens9": None}) == CLOUD


names = st.sampled_from(["ens3", "ens4", "eth0:1", "br-x"])
words = st.text(st.sampled_from("abz019.:/-#\\'\"\t \x0c\x1c\x85\u2028\xe9\udce9\r"), max_size=10)
option = st.builds(lambda w: "    up " + w.rstrip("\\") + "\n", words)
continued = st.builds(lambda w, x: "    up " + w + " \\\n" + x.rstrip("\\") + "\n", words, words)
comment = st.builds(lambda w: "# " + w + "\n", words)
blank = st.sampled_from(["\n", "  \n", "\t\n"])
start = st.one_of(
    st.builds("auto {}\n".format, names),
    st.builds("auto \\\n {}\n".format, names),
    st.builds("allow-hotplug {}\n".format, names),
    st.builds("auto {} {}\n".format, names, names),
    st.builds("iface {} inet manual\n".format, names),
    st.builds("   iface {} inet6 auto\n".format, names),
    st.sampled_from(["source /etc/network/interfaces.d/*\n", "mapping eth*\n", "no-scripts x\n"]),
)
stanza = st.builds(
    lambda head, body: head + "".join(body),
    start,
    st.lists(st.one_of(option, continued, option, comment, blank), max_size=4),
)
interfaces = st.builds(
    lambda parts, tail: "".join(parts) + tail,
    st.lists(st.one_of(stanza, stanza, comment, blank), max_size=8),
    st.sampled_from(["", "auto ens3"]),
)


def logical_lines(text):
    """Lines as get_line() of ifupdown's config.c reads them; blank ones and comments as None."""
    physical = text.split("\n")
    while physical:
        line = physical.pop(0)
        if line.lstrip().startswith("#"):
            continue
        while line.endswith("\\") and physical:
            line = line[:-1] + physical.pop(0)
        if line.split():
            yield line


def read_anew(text):
    """(NIC, its lines) for each stanza, in order, by an independent reading of interfaces(5)."""
    found = [("", [])]
    for line in logical_lines(text):
        first, *rest = line.split()
        if first in (
            "iface",
            "auto",
            "mapping",
            "source",
            "source-directory",
            "rename",
            "no-scripts",
            "no-auto-down",
        ) or first.startswith("allow-"):
            mine = first == "iface" or (first.startswith(("auto", "allow-")) and len(rest) == 1)
            found.append((rest[0] if mine and rest else "", []))
        found[-1][1].append(line)
    return [stanza for stanza in found if stanza[1]]


def without(name, stanzas):
    return [stanza for stanza in stanzas if stanza[0] != name]


@given(interfaces)
def test_the_blocks_of_a_file_are_the_file(text):
    joined = "".join(one.text for one in stanzas(text))
    assert joined == (text if not text or text.endswith("\n") else text + "\n")


@given(interfaces, st.sampled_from(["ens3", "ens4", "new0"]))
def test_removing_a_section_leaves_every_other_line_as_it_was(text, name):
    out = join(text, None, {name: None})
    assert read_anew(out) == without(name, read_anew(text))
    assert name not in split(out)
    others = {n: s for n, s in split(text).items() if n != name}
    assert split(out) == others
    assert join(out, None, {name: None}) == out


@given(interfaces, st.sampled_from(["ens3", "ens4", "new0"]))
def test_writing_a_section_leaves_every_other_line_as_it_was(text, name):
    new = "auto %s\niface %s inet manual\n    mtu 1450\n" % (name, name)
    out = join(text, None, {name: new})
    assert without(name, read_anew(out)) == without(name, read_anew(text))
    assert meaning(split(out)[name]) == meaning(new)
    assert [stanza for stanza in read_anew(out) if stanza[0] == name] == read_anew(new)
    others = {n: s for n, s in split(text).items() if n != name}
    assert {n: s for n, s in split(out).items() if n != name} == others
    assert join(out, None, {name: new}) == out


@given(interfaces, st.sampled_from(["ens3", "ens4", "new0"]))
def test_comments_between_stanzas_are_nobodys_and_stay(text, name):
    marked = text.rstrip("\n\\") + "\n# the first\nauto %s\n# the last\n" % name
    out = join(marked, None, {name: None})
    assert "# the first\n" in out
    assert "# the last\n" in out


@given(interfaces)
def test_the_loopback_and_other_peoples_stanzas_do_not_change_with_several_changes_at_once(text):
    changes = {"ens3": None, "ens4": "auto ens4\niface ens4 inet dhcp\n", "new0": ENS9.replace("ens9", "new0")}
    out = join(text, None, changes)
    kept = [stanza for stanza in read_anew(text) if stanza[0] not in changes]
    assert [stanza for stanza in read_anew(out) if stanza[0] not in changes] == kept
    assert set(changes) - {"ens3"} <= set(split(out))
