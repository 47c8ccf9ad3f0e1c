# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Reads and writes records as JSON that older and newer versions of the package can read. Pure.

A record is a NamedTuple. In what an older version wrote, the fields that were added since are missing
and get their defaults; in what a newer version wrote, unknown fields are ignored. A field with a
default is written only if it has another value, so that a new field changes neither the text nor the
digest of records that do not use it.
"""

from typing import Any, Dict, Iterable, List, Sequence, Type, TypeVar

Record = TypeVar("Record")
More = Dict[str, Dict[str, Any]]


def write(record: Any) -> Dict[str, Any]:
    """Returns a record's fields by name, without those that have their default value."""
    defaults = record._field_defaults
    values = zip(record._fields, record)
    return {name: value for name, value in values if name not in defaults or value != defaults[name]}


def read(kind: Type[Record], *mappings: Any) -> Record:
    """The inverse of write; later mappings take precedence.

    Raises TypeError if a field without a default is missing, or if one of `mappings` is no mapping.
    """
    fields: Dict[str, Any] = {}
    for each in mappings:
        if not isinstance(each, dict):
            raise TypeError("not the fields of a %s: %.60r" % (kind.__name__, each))
        fields.update((name, value) for name, value in each.items() if name in kind._fields)  # type: ignore[attr-defined]
    return kind(**fields)


def extra_fields(records: Iterable[Any], known: Sequence[str]) -> More:
    """Returns, by index in `records`, the fields that are not `known` and not at their default.

    An old version refuses a list whose records have fields that it does not know. So these fields are
    stored beside the list, where the old version does not read them.
    """
    more = {}
    for place, fields in enumerate(map(write, records)):
        new = {name: value for name, value in fields.items() if name not in known}
        if new:
            more[str(place)] = new
    return more


def extra_of(more: Any, place: int) -> Any:
    """Returns what `extra_fields` has for an index: the last argument of read and of read_row."""
    return more.get(str(place), {}) if isinstance(more, dict) else {}


def rows(records: Iterable[Any], known: Sequence[str]) -> List[List[Any]]:
    """Returns each record as the list of its `known` fields, which are its first ones."""
    return [[getattr(record, name) for name in known] for record in records]


def read_rows(kind: Type[Record], known: Sequence[str], listed: Iterable[Any], more: Any = None) -> List[Record]:
    """Returns the records of a list that `rows` made, with their `extra_fields`."""
    return [read_row(kind, known, row, extra_of(more, place)) for place, row in enumerate(listed)]


def read_row(kind: Type[Record], known: Sequence[str], row: Any, more: Any = None) -> Record:
    """The inverse of rows; values after the `known` fields, of a newer version, are ignored. Raises as read does."""
    if not isinstance(row, (list, tuple)):
        raise TypeError("not the fields of a %s: %.60r" % (kind.__name__, row))
    return read(kind, dict(zip(known, row)), more or {})
