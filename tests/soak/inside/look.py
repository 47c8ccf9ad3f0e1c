# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Runs in the guest, with the Python that is there: everything that is judged, as one JSON object.

Commands that are not there print nothing.
"""

import glob
import hashlib
import json
import os
import re
import subprocess

TOPS = ["/etc", "/var/lib/cloudinit-osnetd", "/var/lib/cloud", "/usr/lib/systemd/network", "/lib/systemd/network"]
LEFT_IN = ["/etc", "/var/lib/cloudinit-osnetd", "/var/lib/cloud", "/run/cloudinit-osnetd", "/run/network", "/run/systemd/network"]
PARTS = [
    "/etc/systemd/network/10-cloud-init-*",
    "/etc/network/interfaces.d/50-cloud-init",
    "/etc/netplan/50-cloud-init.yaml",
    "/etc/NetworkManager/system-connections/cloud-init-*",
    "/etc/sysconfig/network-scripts/*-*",
]


def said(words):
    try:
        done = subprocess.run(words.split(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        return done.stdout.decode("utf-8", "replace")
    except OSError:
        return ""


def text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def data(shown, otherwise):
    try:
        return json.loads(shown)
    except ValueError:
        return otherwise


def listing(directory):
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def disk():
    """What could be written outside /run: path to time, mode and digest. No links, nothing of a DHCP client's."""
    found = {}
    for top in TOPS:
        for directory, _inside, names in os.walk(top):
            for path in [os.path.join(directory, name) for name in names]:
                if ".dhclient" in path or "resolvconf/run" in path or path == "/etc/resolv.conf" or os.path.islink(path):
                    continue
                try:
                    with open(path, "rb") as file:
                        found[path] = [os.stat(path).st_mtime_ns, os.stat(path).st_mode, hashlib.sha256(file.read()).hexdigest()]
                except OSError:
                    continue
    return found


def left():
    """What only a run at work has."""
    found = [path for path in ("/var/lib/cloudinit-osnetd/intent.json", "/run/cloudinit-osnetd/temporary-access.json") if os.path.exists(path)]
    for top in LEFT_IN:
        for directory, _inside, names in os.walk(top):
            found += [os.path.join(directory, name) for name in names if ".osnetd-" in name]
    return found


def clients():
    """The command lines of DHCP clients, and of whatever is ours."""
    found = {"dhcp": [], "ours": []}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        line = text("/proc/%s/cmdline" % pid).replace("\0", " ").strip()
        if "dhclient" in line or "dhcpcd" in line:
            found["dhcp"].append(line)
        elif "/usr/bin/cloudinit-osnetd" in line or "serve-queue" in line:
            found["ours"].append(line)
    return found


def dns():
    """By NIC, from resolvconf's own files, `resolvectl dns` or nmcli; None where nobody takes DNS servers."""
    if os.path.isdir("/run/resolvconf/interface"):
        found = {}
        for path in glob.glob("/run/resolvconf/interface/*"):
            servers = [line.split()[1] for line in text(path).splitlines() if line.startswith("nameserver ")]
            found.setdefault(os.path.basename(path).rsplit(".", 1)[0], []).extend(servers)
        return found
    if devices and not os.path.isdir("/etc/sysconfig/network-scripts"):  # there cloud-init has set `dns = none`
        shown = {name: said("nmcli -g IP4.DNS,IP6.DNS device show %s" % name) for name in devices}
        return {name: one.replace("\\", "").replace("|", " ").split() for name, one in shown.items()}
    shown = said("resolvectl dns")
    lines = [line.partition("(")[2].partition("):") for line in shown.splitlines() if line.startswith("Link ")]
    return {name: rest.split() for name, _, rest in lines} if shown else None


def networkd(links):
    """By NIC, networkd's word on it; empty where there is no networkd."""
    if not os.path.isdir("/run/systemd/netif/links"):
        return {}
    words = {}
    for link in links:
        lines = text("/run/systemd/netif/links/%s" % link["ifindex"]).splitlines()
        words[link["ifname"]] = dict(line.partition("=")[::2] for line in lines).get("ADMIN_STATE", "")
    return words


# NetworkManager's own: DEVICE:STATE:CONNECTION
devices = {line.partition(":")[0]: line.partition(":")[2] for line in said("nmcli -t -f DEVICE,STATE,CONNECTION device").splitlines()}
links = data(said("ip -json address") or "[]", [])
units = "systemctl list-units --no-legend --plain --type=timer cloudinit-osnetd*"
history = [data(line, {}) for path in glob.glob("/var/lib/cloudinit-osnetd/history*") for line in text(path).splitlines()]
print(
    json.dumps(
        {
            "boot": text("/proc/sys/kernel/random/boot_id").strip(),
            "links": links,
            "routes": {"4": data(said("ip -json -4 route") or "[]", []), "6": data(said("ip -json -6 route") or "[]", [])},
            "dns": dns(),
            "networkd": networkd(links),
            "networkmanager": devices,
            "ifstate": text("/run/network/ifstate").split() if os.path.exists("/run/network/ifstate") else None,
            "clients": clients(),
            "status": data(said("cloudinit-osnetd status --json"), {}),
            "store": data(text("/var/lib/cloudinit-osnetd/store.json"), None),
            "service": said("systemctl is-active cloudinit-osnetd.service").strip(),
            "queue": [name for name in listing("/run/cloudinit-osnetd/queue") if not name.startswith(".")],
            "work": listing("/run/cloudinit-osnetd/work"),
            "timers": [re.sub("-look-[0-9]+[.]", "-look.", line.split()[0]) for line in said(units).splitlines()],
            "failed": [line.split()[0] for line in said("systemctl --failed --no-legend --plain").splitlines()],
            "parts": {path: text(path) for pattern in PARTS for path in glob.glob(pattern)},
            "left": left(),
            "disk": disk(),
            "history": [
                {
                    "when": one.get("when"),
                    "reasons": one.get("reasons", []),
                    "touches": [[touch.get("mac"), touch.get("action")] for touch in one.get("touches", [])],
                    "seconds": one.get("seconds"),
                }
                for one in history
            ],
        }
    )
)
