# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`datasource adopt|release`: gives cloud-init's cached datasource the class of our override, or its own again."""

import argparse
import sys

from ..cloud_init import datasource_cache


def main(args: argparse.Namespace) -> int:
    try:
        print(datasource_cache.adopt() if args.to == "adopt" else datasource_cache.release())
    except datasource_cache.PickleError as exc:
        sys.stderr.write("cloudinit-osnetd: %s\n" % exc)
        return 1
    return 0
