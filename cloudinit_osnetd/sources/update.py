# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Updates a datasource if a user has enabled `updates: {network: {when: [boot, hotplug]}}`.

The built-in classes clear the whole object and then read everything again. If the drive is gone or the
metadata service is down, the object stays empty, without the instance's id, and the server generates
new host keys. This module reads network_data through a copy of the object and stores it in the object
if the read succeeds; nothing else in the object changes.
"""

import logging
from typing import Any, Sequence

from cloudinit.event import EventType

from ..system import paths

LOG = logging.getLogger(__name__)


def network_data(datasource: Any, events: Sequence[Any]) -> bool:
    """Reads network_data again; returns False if the events are not supported or the read fails."""
    # The latter is 18.4 to 21.2.
    supported = getattr(datasource, "supported_update_events", None) or getattr(datasource, "update_events", {})
    if not any(event in each for each in supported.values() for event in events):
        return False
    datasource._network_config = datasource.osnetd_unset  # noqa: SLF001
    if getattr(EventType, "HOTPLUG", None) in events:
        from . import ladder

        datasource.osnetd_refreshed = ladder.refreshed_truth(datasource.get_instance_id())
        return datasource.osnetd_refreshed is not None
    document = _read_again(datasource)
    if document is None:
        return False
    datasource.network_json = document
    datasource.osnetd_fresh = True
    return True


def _read_again(datasource: Any) -> Any:
    """Returns the network_data that the built-in class finds now; None if it finds none of this instance."""
    copy: Any = object.__new__(type(datasource))
    copy.__dict__.update(datasource.__dict__)
    copy.files = dict(datasource.files)
    if getattr(datasource, "perform_dhcp_setup", False) and _network_is_up():
        # Otherwise a DHCP client would run on a NIC in use; up to 24.1 it also takes the link down afterwards.
        copy.perform_dhcp_setup = False
    if not copy._get_data():  # noqa: SLF001
        LOG.warning("network_data not read again: %s finds none", type(datasource).__name__)
        return None
    if copy.get_instance_id() != datasource.get_instance_id():
        LOG.warning("network_data not read again: it is of instance %s", copy.get_instance_id())
        return None
    return copy.network_json


def _network_is_up() -> bool:
    try:
        with open(paths.KERNEL_ROUTES) as fh:
            return len(fh.readlines()) > 1  # the first is the header
    except OSError:
        return False
