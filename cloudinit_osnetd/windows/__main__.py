# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
