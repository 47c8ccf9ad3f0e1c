# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What each source says, when it said so, and for which NICs it is in force or why it is not. For status."""

import time
from typing import Any, Dict, List, Mapping

from ..core import rejections, truth
from ..core.truth import KeyTruth
from ..state import store

_REPEATS = "says the same as %s"
_OLDER = "%s changed later"
_FIRST = "%s was known first"
_REJECTED = "rejected, its earlier configuration is used"
_ROLLED_BACK = "rolled back, its earlier configuration is used"


def sources(state: store.State, last_run: Any, names: Mapping[str, str]) -> List[Dict[str, Any]]:
    """Returns one row for each source that has ever said something or could not be read.

    `names` has the NICs' names by key; a key without a NIC is shown by its MAC. `listed` is the number of links in the
    source's last document, `changed` the time of its last change (seconds since the epoch, 0: not known), `answered`
    whether the last run could read it (None: not known). `in_force` has the NICs that use its entry, `superseded` why
    others do not, by NIC.
    """
    rejected = rejections.in_force(state.truth, state.rejections, time.time())
    unused = {key: _ROLLED_BACK if one.lasting else _REJECTED for key, one in rejected.items()}
    return [row for row in (_row(state, last_run, names, unused, source) for source in truth.RANK) if row]


def _row(
    state: store.State, last_run: Any, names: Mapping[str, str], unused: Mapping[str, str], source: str
) -> Dict[str, Any]:
    """`unused`: why no entry is used, by key."""
    known = {key: one for key, one in state.truth.keys.items() if source in one.statements}
    answered = _answered(last_run, source)
    faults = _faults(state, last_run, source)
    if not known and source not in state.truth.services and not faults:
        return {}
    used = {key for key, one in known.items() if one.in_force == source and key not in unused}
    listed = [key for key, one in known.items() if one.statements[source].listed]
    return {
        "source": source,
        "listed": len(listed),
        "changed": state.changed.get(source, 0.0),
        "answered": answered,
        "in_force": sorted(_name(key, names) for key in used),
        "superseded": {
            _name(key, names): unused[key] if one.in_force == source else why(one, source)
            for key, one in known.items()
            if key not in used
        },
        "faults": faults,
    }


def why(known: KeyTruth, source: str) -> str:
    """Returns why another source's entry is in force for a key, in a few words."""
    ours, other = known.statements[source], known.statement
    if ours.entry == other.entry:
        return _REPEATS % known.in_force
    return (_OLDER if other.changed > ours.changed else _FIRST) % known.in_force


def _name(key: str, names: Mapping[str, str]) -> str:
    return names.get(key) or key.partition("/")[0]


def _answered(last_run: Any, source: str) -> Any:
    """Returns True or False as the last run noted it, None if it did not."""
    answered = last_run.get("answered") if isinstance(last_run, dict) else None
    found = answered.get(source) if isinstance(answered, dict) else None
    return found if isinstance(found, bool) else None


def _faults(state: store.State, last_run: Any, source: str) -> List[str]:
    """Returns why the last run could not read a source, and the errors in its last document."""
    begins = {"drive": ("config drive ", "drive: "), "metadata": ("metadata ", "metadata: ")}.get(source, ())
    found = last_run.get("faults") if isinstance(last_run, dict) else None
    run = [str(fault) for fault in (found if isinstance(found, list) else ()) if str(fault).startswith(begins)]
    kept = list(state.truth.fault_texts(source))
    return kept + [fault for fault in run if fault not in kept]
