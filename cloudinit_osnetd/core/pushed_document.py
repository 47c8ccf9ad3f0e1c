# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A network_data.json that is handed over by a host or an operator: plain or in base64. Pure.

The sender can mend it, so it is read more strictly than what OpenStack says: what JSON leaves to the reader (a key that
stands twice, NaN) is refused too.
"""

import base64
import binascii
import json
from typing import Any, Callable, Dict, List, Tuple

from . import network_data, truth
from .document_links import MacsByName

# In base64 a document is a third longer, and may be broken into lines.
MAX_INPUT = network_data.MAX_BYTES * 3 // 2
_URL_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
_MAX_DIGITS = 40  # of a number; the largest that means anything here has ten
_MOST_FAULTS = 100
_SHORT = 8  # such as null, 17
_NO_OBJECT = "the document is neither a JSON object nor base64: %r"
_UTF8 = "it must be UTF-8 without a byte order mark"
# What files begin with that are no JSON, and what is said of them.
_BEGINNINGS = (
    (b"\x1f\x8b", "it is compressed (gzip)"),
    (b"BZh", "it is compressed (bzip2)"),
    (b"\xfd7zXZ", "it is compressed (xz)"),
    (b"\x28\xb5\x2f\xfd", "it is compressed (zstd)"),
    (b"PK\x03\x04", "it is a zip archive"),
    (b"\xef\xbb\xbf", "it begins with a byte order mark; " + _UTF8),
    (b"\xff\xfe", "it is UTF-16 or UTF-32; " + _UTF8),
    (b"\xfe\xff", "it is UTF-16; " + _UTF8),
    (b'"', "it is a JSON string and not an object"),
    (b"<", "it is HTML or XML"),
)
_NEEDED = "a network_data.json of OpenStack"
# Keys, all of which an object has, and what it is then.
_OTHERS = (
    (({"version", "config"}, {"network"}, {"ethernets"}), "a network config of cloud-init or netplan"),
    (({"uuid", "hostname"}, {"uuid", "availability_zone"}), "a meta_data.json"),
    (({"ports"}, {"port"}, {"interfaceAttachments"}), "an answer of OpenStack's API"),
)


class Refused(Exception):
    """The input is no network_data that can be taken as it is; nothing was changed."""

    def __init__(self, problems: List[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def limited(read: Callable[[int], bytes], name: str) -> bytes:
    """Returns what `read` gives of a file or a stream with this name: at most a byte more than is taken.

    Raises Refused if it cannot be read: a directory, for example, or a standard input that is closed.
    """
    try:
        return read(MAX_INPUT + 1)
    except (OSError, ValueError) as exc:  # ValueError: a stream that is closed
        name = name if name.isprintable() else name.encode("unicode_escape").decode("ascii")
        raise Refused(["%s: %s" % (name, getattr(exc, "strerror", None) or exc)]) from exc


def decoded(raw: bytes) -> bytes:
    """Returns the JSON text of a document that is plain or in base64. Raises Refused."""
    if len(raw) > MAX_INPUT:
        raise Refused(["the document is larger than %d bytes" % network_data.MAX_BYTES])
    text = raw.strip()
    if not text:
        raise Refused(["the document is empty"])
    _check_beginning(text, "the document is neither JSON nor base64: %s")
    if text[:1] in b"{[":
        if len(raw) > network_data.MAX_BYTES:
            raise Refused(["the document is larger than %d bytes" % network_data.MAX_BYTES])
        return text
    inner = _from_base64(text)
    _check_beginning(inner, "the document is base64 of something else than JSON: %s")
    if len(inner) > network_data.MAX_BYTES:
        raise Refused(["the document is larger than %d bytes" % network_data.MAX_BYTES])
    return inner


def _check_beginning(text: bytes, problem: str) -> None:
    """Raises Refused for what cannot be JSON by its first bytes."""
    what = next((said for sign, said in _BEGINNINGS if text.startswith(sign)), "")
    if not what and _is_yaml(text):
        what = "it is YAML, as a network config of cloud-init or netplan; %s is needed" % _NEEDED
    if not what and b"\0" in text:
        # JSON has none, not even in its strings. UTF-16 and UTF-32 have one in nearly each character.
        many = text.count(b"\0") > len(text) // 3
        what = "it is UTF-16 or UTF-32; " + _UTF8 if many else "it has a NUL byte (at %d)" % text.index(b"\0")
    if what:
        raise Refused([problem % what])


def _is_yaml(text: bytes) -> bool:
    """True if the first line that is no comment is a key with a colon, or what a YAML document begins with."""
    line = next((one.rstrip() for one in text.split(b"\n", 20) if not one.startswith(b"#")), b"")
    key, colon, value = line.partition(b":")
    is_key = bool(colon) and key.replace(b"_", b"").replace(b"-", b"").isalnum() and value[:1] in (b"", b" ")
    return is_key or line == b"---"


def _from_base64(text: bytes) -> bytes:
    compact = b"".join(text.split())
    try:
        inner = base64.b64decode(compact, validate=True)
    except (binascii.Error, ValueError) as exc:
        if len(text) < _SHORT and text.isalnum():
            raise Refused([_NO_OBJECT % text.decode("ascii")]) from exc
        why = "%s (it begins with %.40r)" % (exc, text[:40].decode("utf-8", "replace"))
        if (b"-" in compact or b"_" in compact) and not compact.translate(None, _URL_SAFE):
            why = "it is base64 with the alphabet for URLs (- and _); + and / are needed"
        raise Refused(["the document is neither JSON nor base64: %s" % why]) from exc
    if len(text) < _SHORT and inner[:1] not in (b"{", b"["):
        raise Refused([_NO_OBJECT % text.decode("ascii")])
    try:
        again = base64.b64decode(b"".join(inner.split()), validate=True)
    except (binascii.Error, ValueError):
        return inner
    if again[:1] in (b"{", b"["):
        raise Refused(["the document is base64 of base64: encode it once"])
    return inner


def parsed(raw: bytes, macs: MacsByName) -> network_data.NetworkData:
    """Returns the document, with its errors in `faults`; `macs` as in network_data.parse.

    Raises Refused if it cannot be read, or has no link.
    """
    try:
        document = _loaded(decoded(raw))
        _check_kind(document)
        data = network_data.parse(document, macs)
    except network_data.Refused as exc:
        raise Refused([str(exc)]) from exc
    if not data.entries:
        raise Refused(fault_texts(data) or ["links: the document has none"])
    return data


def _check_kind(document: Any) -> None:
    """Raises Refused, in words that say what it is, for some objects that are pushed in the place of a network_data."""
    if not isinstance(document, dict) or "links" in document:
        return
    inner = next((key for key, value in document.items() if isinstance(value, dict) and "links" in value), None)
    what = next((said for keys, said in _OTHERS if any(some <= set(document) for some in keys)), "")
    if inner is not None:
        raise Refused(["network_data: has no links; they are below the key %.60r: what is there is needed" % (inner,)])
    if what:
        raise Refused(["network_data: has no links: it is %s; %s is needed" % (what, _NEEDED)])


def _loaded(text: bytes) -> Any:
    """Returns the JSON value of a text. Raises Refused, also for what JSON's own readers differ about."""
    try:
        return json.loads(
            text.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_integer
        )
    except UnicodeDecodeError as exc:
        problem = "not UTF-8: byte 0x%02x at %d" % (text[exc.start], exc.start)
    except RecursionError:
        problem = "nested too deeply"
    except ValueError as exc:
        problem = "not JSON: %s" % exc
    raise Refused(["network_data: " + problem])


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _value in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        which = ", in the object with the id %.60r" % (found["id"],) if "id" in found else ""
        raise Refused(["network_data: the key %.60r stands twice%s" % (twice, which)])
    return found


def _no_constant(name: str) -> None:
    raise Refused(["network_data: not JSON: %s is no number" % name])


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise Refused(["network_data: a number of %d digits (%.20s...)" % (len(digits), digits)])
    return int(digits)


def fault_texts(data: network_data.NetworkData) -> List[str]:
    """Returns the errors of a pushed document, for people, who read no more than some of them."""
    begins = "push: "  # whose document it is, which its sender knows
    texts = [
        text[len(begins) :] if text.startswith(begins) else text
        for text in truth.observe(truth.EMPTY, "push", data, 0.0).fault_texts("push")
    ]
    more = len(texts) - _MOST_FAULTS
    return texts if more <= 0 else texts[:_MOST_FAULTS] + ["and %d more errors" % more]
