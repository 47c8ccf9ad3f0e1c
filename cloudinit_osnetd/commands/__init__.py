# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""One module for each subcommand: `main(args)` gives the exit status."""
