# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Windows: reads by IP Helper and the registry, writes by netsh. In no Linux package; see docs/windows.md."""
