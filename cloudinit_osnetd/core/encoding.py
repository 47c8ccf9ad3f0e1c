# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Records as JSON, whichever version of the package wrote them: pure.

A record is a NamedTuple. What an older version wrote lacks the fields that were added since, which
then have their defaults; what a newer one wrote has fields that are not known here, and are left.
A field with a default is written only where it says something else, so that a new field changes
neither the text nor the digest of what does not use it.
"""

from typing import Any, Dict, Iterable, List, Sequence, Type, TypeVar

Record = TypeVar("Record")
More = Dict[str, Dict[str, Any]]


def write(record: Any) -> Dict[str, Any]:
    """A record's fields by name, without those that are at their defaults."""
    defaults = record._field_defaults
    said = zip(record._fields, record)
    return {name: value for name, value in said if name not in defaults or value != defaults[name]}


def read(kind: Type[Record], *said: Any) -> Record:
    """The inverse of write; of two mappings the later one counts.

    Raises TypeError where a field is lacking that has no default, or one of `said` is no mapping.
    """
    fields: Dict[str, Any] = {}
    for each in said:
        if not isinstance(each, dict):
            raise TypeError("not the fields of a %s: %.60r" % (kind.__name__, each))
        fields.update((name, value) for name, value in each.items() if name in kind._fields)  # type: ignore[attr-defined]
    return kind(**fields)


def beyond(records: Iterable[Any], known: Sequence[str]) -> More:
    """By place among `records`: the fields that are not `known`, and say something.

    For a list whose reader of long ago refuses a record with a field that he does not know: these
    are kept beside it, where he does not look.
    """
    more = {}
    for place, fields in enumerate(map(write, records)):
        new = {name: value for name, value in fields.items() if name not in known}
        if new:
            more[str(place)] = new
    return more


def of_place(more: Any, place: int) -> Any:
    """What `beyond` has for a place: the last argument of read and of read_row."""
    return more.get(str(place), {}) if isinstance(more, dict) else {}


def rows(records: Iterable[Any], known: Sequence[str]) -> List[List[Any]]:
    """Each record as the list of the `known` ones of its fields, which are its first."""
    return [[getattr(record, name) for name in known] for record in records]


def read_rows(kind: Type[Record], known: Sequence[str], listed: Iterable[Any], more: Any = None) -> List[Record]:
    """The records of a list that `rows` made, with what `beyond` has of them."""
    return [read_row(kind, known, row, of_place(more, place)) for place, row in enumerate(listed)]


def read_row(kind: Type[Record], known: Sequence[str], row: Any, more: Any = None) -> Record:
    """The inverse of rows; what a newer version has behind the `known` fields is left. Raises as read does."""
    if not isinstance(row, (list, tuple)):
        raise TypeError("not the fields of a %s: %.60r" % (kind.__name__, row))
    return read(kind, dict(zip(known, row)), more or {})
