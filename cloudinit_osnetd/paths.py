# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Where things lie in the guest."""

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
BOOT = RUN + "/boot.json"
STATUS = RUN + "/status.json"

# cloud-init's own (cloudinit/helpers.py: Paths; stable since 18.3)
INSTANCE_ID = ("/run/cloud-init/.instance-id", "/var/lib/cloud/data/instance-id")
DATASOURCE = "/var/lib/cloud/instance/datasource"
SEED = "/var/lib/cloud/seed/config_drive"
CLOUD_CONFIG = "/var/lib/cloud/instance/cloud-config.txt"
