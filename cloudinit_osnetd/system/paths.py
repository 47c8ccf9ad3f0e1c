# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The paths of all files on the server."""

STATE = "/var/lib/cloudinit-osnetd"
STORE = STATE + "/store.json"
INTENT = STATE + "/intent.json"
HISTORY = STATE + "/history.jsonl"
CONTEXT = STATE + "/context.json"

RUN = "/run/cloudinit-osnetd"
QUEUE = RUN + "/queue"
WORK = RUN + "/work"
STAGING = RUN + "/staging"
LOCK = RUN + "/lock"
# Written by cloud-init's process at any moment of a boot, so in a directory that no run sweeps.
BOOT = RUN + "/boot/fallback.json"
EARLY = RUN + "/early.json"
STATUS = RUN + "/status.json"
WAITING = RUN + "/waiting.json"
LOADED = RUN + "/loaded"  # see loaded_files.py
MADE = RUN + "/made"  # see netdevs.py
GENERATED = RUN + "/netplan"
DHCP = RUN + "/dhcp"  # see dhcp/dhclient-exit-hook
FAILED_RETRIES = RUN + "/kicks.json"
DNS_SET = RUN + "/told"  # see dns_over_dbus.py
FINDINGS = RUN + "/findings.json"  # see findings.py
FOREIGN = RUN + "/theirs.json"  # see foreign.py

QUEUE_EVENT = "/usr/lib/cloudinit-osnetd/queue-event"

# cloud-init's own (cloudinit/helpers.py: Paths; stable since 18.3)
INSTANCE_ID = ("/run/cloud-init/.instance-id", "/var/lib/cloud/data/instance-id")
INSTANCES = "/var/lib/cloud/instances"
CLOUD_DISABLED = "/etc/cloud/cloud-init.disabled"
CLOUD_RAN = "/run/cloud-init/status.json"  # written by the first stage of each boot
HOTPLUG_ENABLED = "/var/lib/cloud/hotplug.enabled"  # 24.1
SEED = "/var/lib/cloud/seed/config_drive"
