# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`datasource adopt|release`: cloud-init's cached datasource becomes the override's, or back."""

import argparse
import sys

from .. import pickled


def main(args: argparse.Namespace) -> int:
    try:
        print(pickled.adopt() if args.to == "adopt" else pickled.release())
    except pickled.PickleError as exc:
        sys.stderr.write("cloudinit-osnetd: %s\n" % exc)
        return 1
    return 0
