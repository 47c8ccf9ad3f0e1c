# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`boot`: the command of the early unit. It handles every error, because it must not delay the network."""

import logging
from typing import TYPE_CHECKING

from ..cloud_init.eligibility import NotManaged
from ..run import early_boot

if TYPE_CHECKING:
    import argparse

LOG = logging.getLogger(__name__)


def main(_args: "argparse.Namespace") -> int:
    try:
        report = early_boot.early()
    except NotManaged as exc:
        LOG.info("not managed: %s", exc)
        report = {"hands_off": str(exc)}
    except Exception as exc:  # noqa: BLE001 - the network starts with the files on disk
        LOG.exception("early boot failed, files unchanged")
        report = {"error": repr(exc)}
    try:
        early_boot.note(report)
    except OSError as exc:
        LOG.warning("report not kept for status: error=%s", exc)
    LOG.info("early boot: %s", " ".join("%s=%s" % item for item in sorted(report.items())))
    return 1 if report.get("error") else 0
