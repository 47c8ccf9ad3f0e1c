# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The host's side: hands a network_data.json to `cloudinit-osnetd apply` in a guest, through the QEMU guest agent.

It needs nothing but Python 3.6 and its standard library, libvirt-python where a domain is named, and openstacksdk where
the document is made from the cloud's API. It imports nothing of the guest's package.
"""

__version__ = "0.2.0"
