# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""One module per subcommand; `main(args)` returns the exit status."""
