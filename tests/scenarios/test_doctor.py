# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""doctor on a guest: each check passes on a healthy one and fails once that is broken; a bundle has no secrets."""

from __future__ import annotations

import io
import json
import re
import tarfile
from typing import Any, Dict, Iterator, List, NamedTuple

import pytest

from tests.lab import Cloud, Container
from tests.scenarios.conftest import GuestFactory
from tests.scenarios.seen import settled


class Breakage(NamedTuple):
    """What is done to a guest, which check sees it, what it names, and how it is mended."""

    check: str
    breaks: str
    names: str
    mends: str


_BACKUP = "cp -a /var/lib/cloudinit-osnetd/store.json /root/store.json"
_RESTORE = "cp -a /root/store.json /var/lib/cloudinit-osnetd/store.json"
BREAKAGES = [
    Breakage(
        "drop-in",
        "echo 'datasource_pkg_list: [\"\"]' > /etc/cloud/cloud.cfg.d/99_site.cfg",
        "99_site.cfg",
        "rm /etc/cloud/cloud.cfg.d/99_site.cfg",
    ),
    Breakage(
        "drop-in",
        "printf 'a: [\\n' > /etc/cloud/cloud.cfg.d/97_broken.cfg",
        "97_broken.cfg",
        "rm /etc/cloud/cloud.cfg.d/97_broken.cfg",
    ),
    Breakage("datasource", "cloudinit-osnetd datasource release", "own class", "cloudinit-osnetd datasource adopt"),
    Breakage(
        "instance",
        f"{_BACKUP}; sed -i 's/\"instance_id\": \"[^\"]*/\"instance_id\": \"another-server/' /var/lib/cloudinit-osnetd/store.json",
        "another-server",
        _RESTORE,
    ),
    Breakage("units", "systemctl stop cloudinit-osnetd.path", "cloudinit-osnetd.path", "systemctl start cloudinit-osnetd.path"),
    Breakage(
        "units",
        "systemctl disable cloudinit-osnetd-early.service",
        "cloudinit-osnetd-early.service",
        "systemctl enable cloudinit-osnetd-early.service",
    ),
    Breakage(
        "udev rule",
        "ln -s /dev/null /etc/udev/rules.d/90-cloudinit-osnetd.rules",
        "/etc/udev/rules.d/90-cloudinit-osnetd.rules",
        "rm /etc/udev/rules.d/90-cloudinit-osnetd.rules",
    ),
    Breakage(
        "queue",
        "mkdir -p /run/cloudinit-osnetd/work; touch -d '10 minutes ago' /run/cloudinit-osnetd/work/0000000001.00.operator",
        "not served",
        "rm /run/cloudinit-osnetd/work/0000000001.00.operator",
    ),
    Breakage(
        "clock",
        f"{_BACKUP}; touch -d '2 hours' /var/lib/cloudinit-osnetd/store.json",
        "files were written at",
        _RESTORE,
    ),
]
ON_IFUPDOWN = [
    Breakage(
        "other files",
        "printf 'allow-hotplug {nic}\\niface {nic} inet dhcp\\n' > /etc/network/interfaces.d/60-image",
        "/etc/network/interfaces.d/60-image",
        "rm /etc/network/interfaces.d/60-image",
    ),
    Breakage(
        "DHCP clients",
        "dhclient -nw -pf /run/left-over.pid -sf /bin/true {nic}",
        "dhclient",
        "kill $(cat /run/left-over.pid)",
    ),
]
ON_NETWORKD = [
    Breakage(
        "other files",
        "printf '[Match]\\nName={nic}\\n[Network]\\nDHCP=yes\\n' > /etc/systemd/network/05-image.network",
        "/etc/systemd/network/05-image.network",
        "rm /etc/systemd/network/05-image.network",
    ),
]
_DROP_IN = "/etc/systemd/system/cloud-init-hotplugd.service.d/cloudinit-osnetd.conf"
HOTPLUG = Breakage(
    "hotplug",
    "echo '# as cloud-init writes it' > /etc/udev/rules.d/10-cloud-init-hook-hotplug.rules; "
    f"mkdir -p $(dirname {_DROP_IN}); ln -s /dev/null {_DROP_IN}; systemctl daemon-reload",
    "10-cloud-init-hook-hotplug.rules",
    f"rm /etc/udev/rules.d/10-cloud-init-hook-hotplug.rules {_DROP_IN}; systemctl daemon-reload",
)


def doctor(guest: Container) -> Dict[str, List[Dict[str, Any]]]:
    """The results by check."""
    found: Dict[str, List[Dict[str, Any]]] = {}
    done = guest.run("cloudinit-osnetd doctor --json", check=False)
    told = json.loads(done.stdout)
    for one in told["checks"]:
        found.setdefault(one["name"], []).append(one)
    assert done.returncode == (1 if any(one["state"] == "failed" for one in told["checks"]) else 0)
    return found


def failed(results: Dict[str, List[Dict[str, Any]]]) -> Iterator[Dict[str, Any]]:
    return (one for of_check in results.values() for one in of_check if one["state"] == "failed")


@pytest.mark.every_kind
def test_each_check_passes_on_a_healthy_guest_and_fails_once_that_is_broken(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1", dns=["10.90.0.1"])
    server = cloud.server("patient")
    port = server.create_port(blue)
    guest = guest_factory(server, trusted_cache=True)
    guest.boot()
    settled(guest)
    assert list(failed(doctor(guest))) == []

    cases = BREAKAGES + (ON_IFUPDOWN if guest.backend == "ifupdown" else ON_NETWORKD)
    for case in cases + ([] if guest.suite == "bullseye" else [HOTPLUG]):  # cloud-init 20.4 has no hotplug
        guest.run(case.breaks.format(nic=guest.nic(port)))
        results = doctor(guest)
        guest.run(case.mends)
        wrong = [one for one in failed(results) if one["name"] == case.check]
        assert wrong and case.names in " ".join(one["found"] for one in wrong) and wrong[0]["advice"], (case, results)
    assert list(failed(doctor(guest))) == []

    (good,) = doctor(guest)["metadata"]
    assert good["state"] == "ok" and f"{guest.nic(port)}: answers in" in good["found"], good
    cloud.override("*/meta_data.json", status=404)
    (bad,) = doctor(guest)["metadata"]
    assert bad["state"] == "warning" and "404" in bad["found"] and "config drive" in bad["advice"], bad
    cloud.metadata.clear_overrides()

    screen = guest.run("COLUMNS=80 cloudinit-osnetd doctor").stdout.splitlines()
    assert max(map(len, screen)) <= 80 and "\033" not in "".join(screen), screen


@pytest.mark.deep
@pytest.mark.on("trixie-networkd")
def test_two_managers_and_a_guest_agent_that_blocks_what_a_push_needs(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1")
    server = cloud.server("two")
    port = server.create_port(blue)
    guest = guest_factory(server, also=("network-manager", "qemu-guest-agent"))
    guest.boot()
    settled(guest)
    name = guest.nic(port)
    guest.run("systemctl start NetworkManager")
    guest.run(f"nmcli device set {name} managed yes; sleep 2", check=False)
    (two,) = doctor(guest)["two managers"]
    assert two["state"] == "failed" and str(name) in two["found"], (two, guest.run("nmcli device", check=False).stdout)
    guest.run("systemctl stop NetworkManager; rm -r /run/NetworkManager/devices")
    assert doctor(guest)["two managers"][0]["state"] == "ok"

    (agent,) = doctor(guest)["guest agent"]
    assert "channel" in agent["found"], agent  # a container's host gives it none
    guest.run("mkdir -p /etc/qemu; printf '[general]\\nblock-rpcs=guest-file-open,guest-exec\\n' > /etc/qemu/qemu-ga.conf")
    (agent,) = doctor(guest)["guest agent"]
    assert agent["state"] == "warning" and "guest-exec" in agent["found"] and "/etc/qemu/qemu-ga.conf" in agent["advice"], agent


# -- the bundle ------------------------------------------------------------------------------------------------------

CONFIG = """
osnetd: {must_reach: ["192.0.2.1"], debounce: 1.25}
users: [{name: op, hashed_passwd: "$6$planted$plantedHashOfUsers0123"}]
chpasswd: {list: "op:plantedChpasswd1"}
password: plantedPassword2
ssh_keys: {rsa_private: "plantedHostKey3"}
write_files: [{path: /etc/x, content: plantedContent4}]
datasource: {NoCloud: {user-data: plantedSeed5}, OpenStack: {metadata_urls: ["http://op:plantedLogin6@192.0.2.9"]}}
reporting: {hook: {type: webhook, endpoint: "https://192.0.2.8/?t=plantedToken7", token_secret: plantedToken8}}
"""
USER_DATA = """#cloud-config
runcmd: [[sh, -c, "echo plantedUserData9 > /root/x"]]
password: plantedUserPassword10
"""
NETWORK = {
    "etc/systemd/network/99-wifi.network": "# plantedComment11\n[Match]\nName=wlan9\n[Network]\nDHCP=yes\n",
    "etc/systemd/network/99-wg.netdev": "[NetDev]\nName=wg9\nKind=wireguard\n[WireGuard]\nPrivateKey=plantedWireguard12=\n",
    "etc/netplan/99-wifi.yaml": "network:\n  wifis:\n    wlan9:\n      access-points:\n        cafe:\n          password: |\n"
    "            plantedNetplan13\n          auth: {key-management: psk, password: plantedNetplan14}\n",
    "etc/network/interfaces.d/99-wifi": "iface wlan9 inet dhcp\n    wpa-ssid cafe\n    wpa-psk plantedPsk15\n"
    "    wireless-key s:plantedWep16\n    up wpa_passphrase cafe plantedUp17\n    up curl -u op:plantedCurl18 http://192.0.2.7\n"
    "    address 192.0.2.77/24\n",
    "etc/NetworkManager/system-connections/x.nmconnection": "[wifi-security]\npsk=plantedKeyfile19\n[802-1x]\n"
    "password=plantedKeyfile20\n[vpn-secrets]\nx=plantedKeyfile21\n[ipv4]\nmethod=auto\n",
}


@pytest.mark.every_kind
def test_a_bundle_has_what_a_report_needs_and_none_of_the_planted_secrets(cloud: Cloud, guest_factory: GuestFactory) -> None:
    blue = cloud.network("blue", cidr="10.90.0.0/24", gateway="10.90.0.1")
    server = cloud.server("secrets")
    server.create_port(blue)
    guest = guest_factory(server, trusted_cache=True)
    secrets = {
        "admin_pass": "plantedAdmin22",
        "random_seed": "cGxhbnRlZFNlZWQyMw==",
        "meta": {"api_key": "plantedMeta24"},
        "public_keys": {"op": "ssh-rsa AAAAplantedPublicKey25plantedPublicKey25 op@host"},
    }
    for version in (guest.root / "var/lib/cloud/seed/config_drive/openstack").iterdir():  # cloud-init reads one of them
        meta = json.loads((version / "meta_data.json").read_text())
        (version / "meta_data.json").write_text(json.dumps({**meta, **secrets}))
        (version / "user_data").write_text(USER_DATA)
        (version / "vendor_data.json").write_text(json.dumps({"cloud-init": "#cloud-config\nx: plantedVendor26\n"}))
    guest.boot()
    settled(guest)
    known = guest.run("grep -rlaE 'plantedUserData9|plantedAdmin22|plantedVendor26' /var/lib/cloud/instances/").stdout
    assert known.count("\n") >= 3, known
    for path, text in {**NETWORK, "etc/cloud/cloud.cfg.d/93_site.cfg": CONFIG}.items():
        guest.run(f"mkdir -p $(dirname /{path})")
        guest.put(text.encode(), "/" + path)
    guest.run("echo 'plantedUserData9 is in a log' >> /var/log/cloud-init.log; systemd-cat -t x echo planted")
    host_key = guest.run("cut -d' ' -f2 /etc/ssh/ssh_host_*.pub | head -n 1").stdout.strip()

    guest.run("cloudinit-osnetd doctor --bundle /root/bundle.tgz", check=False)
    assert guest.run("stat -c %a /root/bundle.tgz").stdout.strip() == "600"
    raw = (guest.running_root / "root/bundle.tgz").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        parts = {member.name: archive.extractfile(member).read().decode() for member in archive}  # type: ignore[union-attr]
    text = "\n".join(parts.values())
    assert not re.findall(r"(?i)planted\w*", text), sorted(set(re.findall(r"(?i)planted\w*", text)))
    assert "cGxhbnRlZFNlZWQyMw" not in text and (not host_key or host_key not in text)

    names = " ".join(parts)
    for wanted in ("status.json", "doctor.json", "store.json", "history.json", "about.txt", "93_site.cfg", "journal/", "ip rule"):
        assert wanted in names, names
    config = next(part for name, part in parts.items() if name.endswith("93_site.cfg"))
    assert "debounce: 1.25" in config and "192.0.2.1" in config and "write_files" in config, config
    stanza = next(part for name, part in parts.items() if name.endswith("interfaces.d/99-wifi"))
    assert "iface wlan9 inet dhcp" in stanza and "192.0.2.77/24" in stanza, stanza
