# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a datasource does where a user has enabled `updates: {network: {when: [boot, hotplug]}}`.

The built-in classes clear the whole object and then read everything anew. With the drive gone or
the metadata service down the object is left empty, with an instance id of nobody, and the server
makes itself new host keys. Here network_data is read anew beside the object and put into it when
it is there; nothing else of the object changes, ever.
"""

import logging
from typing import Any, Sequence

from cloudinit.event import EventType
from cloudinit.sources import UNSET

LOG = logging.getLogger(__name__)
_ROUTES = "/proc/net/route"


def network_data(datasource: Any, events: Sequence[Any]) -> bool:
    """Read network_data anew; False where no such event counts here, or it cannot be read."""
    # The latter is 18.4 to 21.2.
    supported = getattr(datasource, "supported_update_events", None) or getattr(datasource, "update_events", {})
    if not any(event in each for each in supported.values() for event in events):
        return False
    datasource._network_config = None if type(datasource).__name__ == "DataSourceConfigDrive" else UNSET  # noqa: SLF001
    if getattr(EventType, "HOTPLUG", None) in events:
        from . import ladder

        datasource.osnetd_heard = ladder.ask(datasource.get_instance_id())
        return datasource.osnetd_heard is not None
    document = _read_anew(datasource)
    if document is None:
        return False
    datasource.network_json = document
    datasource.osnetd_fresh = True
    return True


def _read_anew(datasource: Any) -> Any:
    """The network_data that the built-in class finds now; None where it finds none of this instance."""
    beside: Any = object.__new__(type(datasource))
    beside.__dict__.update(datasource.__dict__)
    beside.files = dict(datasource.files)
    if getattr(datasource, "perform_dhcp_setup", False) and _network_is_up():
        # A DHCP client on a NIC in use; up to 24.1 it also takes the link down when it is done.
        beside.perform_dhcp_setup = False
    if not beside._get_data():  # noqa: SLF001
        LOG.warning("network_data not read anew: %s finds none", type(datasource).__name__)
        return None
    if beside.get_instance_id() != datasource.get_instance_id():
        LOG.warning("network_data not read anew: it is of instance %s", beside.get_instance_id())
        return None
    return beside.network_json


def _network_is_up() -> bool:
    try:
        with open(_ROUTES) as fh:
            return len(fh.readlines()) > 1  # the first is the header
    except OSError:
        return False
