# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The package that `datasource_pkg_list` names: cloud-init looks here before its own sources."""
