# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The paths of all files on the server that are read or written in place.

What a format renders into a tree (/etc/netplan/50-cloud-init.yaml and the like) is named by the format, in backends/.
"""

STATE = "/var/lib/cloudinit-osnetd"
STORE = STATE + "/store.json"
INTENT = STATE + "/intent.json"
HISTORY = STATE + "/history.jsonl"
REPORTED = STATE + "/reported.json"  # see announce.py
CONTEXT = STATE + "/context.json"
UNCHANGED_BOOT = STATE + "/unchanged-boot"  # see unchanged_boot.py

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
DEVICES = RUN + "/devices.json"  # see bus_devices.py
CORRECTED = RUN + "/corrected.json"  # see corrections.py
FINDINGS = RUN + "/findings.json"  # see findings.py
FOREIGN = RUN + "/theirs.json"  # see foreign.py
TEMPORARY_ACCESS = RUN + "/temporary-access.json"

QUEUE_EVENT = "/usr/lib/cloudinit-osnetd/queue-event"
HOST_COMMAND = "/usr/lib/cloudinit-osnetd/host-command"

# cloud-init's own (cloudinit/helpers.py: Paths; stable since 18.3)
INSTANCE_ID = ("/run/cloud-init/.instance-id", "/var/lib/cloud/data/instance-id")
INSTANCES = "/var/lib/cloud/instances"
CLOUD_DISABLED = "/etc/cloud/cloud-init.disabled"
CLOUD_BEGAN = "/run/cloud-init/cloud-init-generator.log"  # of systemd's generator, before anything is started
CLOUD_ON = "/run/cloud-init/enabled"  # by that generator, unless it found no datasource or is switched off
# Links to files in /var/lib/cloud/data, which `cloud-init clean` removes: the links stay for the rest of the boot.
CLOUD_RAN = "/run/cloud-init/status.json"  # made by the first stage of each boot
CLOUD_DONE = "/run/cloud-init/result.json"  # made by the last one
HOTPLUG_ENABLED = "/var/lib/cloud/hotplug.enabled"  # 24.1
SEED = "/var/lib/cloud/seed/config_drive"
DATASOURCE_CACHE = "/var/lib/cloud/instance/obj.pkl"
UPGRADED_NETWORK = "/var/lib/cloud/data/upgraded-network"
CONFIG_DRIVES = ("/dev/disk/by-label/config-2", "/dev/disk/by-label/CONFIG-2")

# the kernel's
PROC = "/proc"
KERNEL_NICS = "/sys/class/net"
KERNEL_ROUTES = "/proc/net/route"
BOOT_ID = "/proc/sys/kernel/random/boot_id"  # random(4); systemd-nspawn and the like give each container its own
IPV4_SETTINGS = "/proc/sys/net/ipv4/conf"
IPV6_SETTINGS = "/proc/sys/net/ipv6/conf"

# udev's and systemd's
UDEV_DATABASE = "/run/udev/data"
UDEV_CONTROL = "/run/udev/control"  # exists if udevd runs
SYSTEMD = "/run/systemd/system"  # exists if systemd is the init (sd_booted(3))
TRANSIENT_UNITS = "/run/systemd/transient"

# networkd's
NETWORKD_LINKS = "/run/systemd/netif/links"  # what sd-network(3) reads
NETWORKD_STATE = "/run/systemd/netif/state"  # exists once networkd has started in this boot
NETWORKD_INVOCATION = "/run/systemd/units/invocation:systemd-networkd.service"
NETWORKD_RUNTIME_FILES = "/run/systemd/network"

# netplan's. Since 1.2 `generate` writes only units, and `configure` writes the rest.
NETPLAN_GENERATORS = (
    "/usr/libexec/netplan/configure",
    "/usr/libexec/netplan/generate",
    "/usr/lib/netplan/generate",
    "/lib/netplan/generate",
)

# ifupdown's and its helpers'
IFSTATE = "/run/network/ifstate"
INTERFACES_FRAGMENTS = "/run/network/interfaces.d"  # see ifupdown/dhcp_helper.py
IFUPDOWN_HOOKS = "/etc/network"
IFUPDOWN_HELPER = "/etc/network/cloud-ifupdown-helper"
DHCLIENT_PID = "/run/dhclient.%s.pid"  # the name that ifupdown uses
RESOLVCONF_PROGRAMS = ("/sbin/resolvconf", "/usr/sbin/resolvconf")
RESOLVCONF_RECORDS = "/run/resolvconf/interface"

# what doctor reads
DROP_INS = "/etc/cloud/cloud.cfg.d"
CLOUD_CFG = "/etc/cloud/cloud.cfg"
OUR_DROP_IN = DROP_INS + "/95_osnetd.cfg"
UDEV_RULES = (  # udev(7): a file in an earlier directory replaces one of the same name in a later one
    "/etc/udev/rules.d",
    "/run/udev/rules.d",
    "/usr/local/lib/udev/rules.d",
    "/usr/lib/udev/rules.d",
    "/lib/udev/rules.d",
)
NETWORKMANAGER_DEVICES = "/run/NetworkManager/devices"
AGENT_PROGRAMS = ("/usr/sbin/qemu-ga", "/usr/bin/qemu-ga")
AGENT_CHANNEL = "/dev/virtio-ports/org.qemu.guest_agent.0"
AGENT_CONFIGS = ("/etc/sysconfig/qemu-ga", "/etc/default/qemu-guest-agent", "/etc/qemu/qemu-ga.conf")
SELINUX = "/sys/fs/selinux/enforce"
OWN_CONTEXT = "/proc/self/attr/current"
AUDIT_LOG = "/var/log/audit/audit.log"
PRODUCT_UUID = "/sys/class/dmi/id/product_uuid"
CONTAINER = "/run/systemd/container"  # exists in a container (systemd's container interface)
PREVIOUS_INSTANCE = "/var/lib/cloud/data/previous-instance-id"
