# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What an early boot depends on, noted if it found nothing to do, for unchanged_boot.py.

A source of truth that is missing here would be overlooked at a boot. So whole directories are noted rather than single
files, contents rather than times, and a backend that does not say what it reads (base.Activator.boot_inputs) is never
skipped.
"""

import logging
import os
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .. import __file__ as package
from ..cloud_init import context, instance
from ..cloud_init.eligibility import RunContext
from ..state import store
from ..system import files, paths
from . import unchanged_boot

LOG = logging.getLogger(__name__)
_MOST = 2000  # inputs; a server with more of them is not skipped

Input = Tuple[str, str]  # kind and path, as in unchanged_boot.value_of


class Inputs(NamedTuple):
    values: Dict[Input, str]
    outputs: Tuple[str, ...]  # directories below /run in which the backend prepares the boot


def read(on: RunContext) -> Optional[Inputs]:
    """Returns the inputs with their values; None if they are not known, or too many."""
    trees = on.backend.boot_inputs()
    if trees is None:
        return None
    found: List[Input] = [("python", "-"), ("nics", paths.KERNEL_NICS)]
    found += [("present", path) for path in (paths.CLOUD_DISABLED, paths.CLOUD_RAN, paths.INTENT)]
    found += [("content", path) for path in paths.INSTANCE_ID + (paths.HOTPLUG_ENABLED, paths.STORE, paths.CONTEXT)]
    found.append(("content", instance.datasource_file()))
    found.append(("names", paths.STATE))
    read_by_cloud_init, checked = context.inputs()
    found += [("content", path) for path in read_by_cloud_init]
    found += [("present", path) for path in checked]
    found += [("names", "/etc/cloud/cloud.cfg.d")]
    found += [("device", label) for label in paths.CONFIG_DRIVES]
    for tree in (os.path.join(paths.SEED, "openstack/latest"), *trees):
        found += _tree(tree)
    # The code, by the times of its directories: a package manager renames files into place.
    found += [("stamp", top) for top, _inside, _names in os.walk(os.path.dirname(package)) if "__pycache__" not in top]
    if len(found) > _MOST or any("\t" in path or "\n" in path for _kind, path in found):
        return None
    return Inputs({one: unchanged_boot.value_of(*one) for one in found}, on.backend.boot_outputs)


def _tree(top: str) -> List[Input]:
    if not os.path.isdir(top):
        return [("content", top), ("names", top)]
    found: List[Input] = []
    for directory, _inside, names in os.walk(top, followlinks=True):
        found.append(("names", directory))
        found += [("content", os.path.join(directory, name)) for name in names]
        if len(found) > _MOST:  # or a link that leads upward
            break
    return found


def keep(before: Optional[Inputs], on: RunContext, state: store.State, report: Dict[str, Any]) -> None:
    """Notes the inputs of an early boot that found nothing to do, and changed none of them; else removes the note.

    `before`: as they were when it began; `state`: as it was left; `report`: the report for status.
    """
    try:
        text = _record(before, on, state, report)
        if text is None:
            files.remove(paths.UNCHANGED_BOOT)
        elif text != files.read(paths.UNCHANGED_BOOT):
            files.replace(paths.UNCHANGED_BOOT, text, mode=0o600, sync=False)
    except OSError as exc:
        LOG.warning("the inputs of this boot are not noted: error=%s", exc)


def _record(
    before: Optional[Inputs], on: RunContext, state: store.State, report: Dict[str, Any]
) -> Optional[str]:
    if before is None or not state.ledger or state.on_trial or state.provisional:
        return None
    if any(report[name] for name in ("changes", "adopted", "drifted", "problems", "faults", "imported_cloudinit")):
        return None
    after = read(on)
    if after is None:
        return None
    outputs: Dict[str, bytes] = {}
    for one in before.values.keys() | after.values.keys():
        kind, path = one
        if before.values.get(one, "-") == after.values.get(one, "-"):
            continue
        prepared = any(path == top or path.startswith(top + "/") for top in before.outputs)
        if not prepared or (kind == "content" and after.values.get(one, "-") == "-"):
            return None  # something else is written, or something is removed at each boot
    for top in before.outputs:
        for kind, path in _tree(top):
            if kind == "content" and before.values.get((kind, path), "-") != unchanged_boot.value_of(kind, path) != "-":
                with open(path, "rb") as fh:
                    outputs[path] = fh.read()
    lines = ["%s\t%s\t%s" % (kind, path, value) for (kind, path), value in sorted(before.values.items())]
    lines += ["write\t%s\t%s" % (path, content.hex()) for path, content in sorted(outputs.items())]
    return "\n".join([unchanged_boot.HEADER, *lines, unchanged_boot.END, ""])
