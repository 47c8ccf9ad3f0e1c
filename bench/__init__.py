# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""How fast a guest follows its ports, and at what price: `make bench`, and docs/performance.md for what came out."""
