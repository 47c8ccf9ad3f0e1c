# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What a bundle keeps and what it removes: files as people and other projects write them."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cloudinit_osnetd.doctor import redact

LINES = [
    # ifupdown
    ("iface wlan0 inet dhcp\n    wpa-psk Zq9wXk3mPz\n", "iface wlan0 inet dhcp"),
    ("iface wlan0 inet dhcp\n    wireless-key s:Zq9wXk3mPz\n    mtu 1400\n", "mtu 1400"),
    (
        "iface ppp0 inet ppp\n    pre-up /usr/local/bin/login Zq9wXk3mPz\n    up ip route add 10.1.0.0/16 via 10.0.0.1\n",
        "via 10.0.0.1",
    ),
    ("# the password is Zq9wXk3mPz\nauto ens3\n", "auto ens3"),
    ("iface ens3 inet dhcp\n    up /usr/bin/login \\\n    Zq9wXk3mPz \\\n    Zq9wXk3mPz\n    mtu 1400\n", "mtu 1400"),
    ("iface w inet dhcp\nwpa-psk \\\nZq9wXk3mPz\nmtu 1400\n", "mtu 1400"),
    ("iface ens3 inet dhcp\n  up ip link set ens3 up && login Zq9wXk3mPz\n  down ip route flush; login Zq9wXk3mPz\n", "ens3"),
    ("iface ens3 inet dhcp\n  up ip route add 10.1.0.0/16 via $(login Zq9wXk3mPz)\n  mtu 1400\n", "mtu 1400"),
    ("iface ens3 inet dhcp\n  up ip netns exec a login Zq9wXk3mPz\n  mtu 1400\n", "mtu 1400"),
    ('SUBSYSTEM=="net", PROGRAM="x Zq9wXk3mPz", RUN+="/bin/login Zq9wXk3mPz", NAME="ens3"\n', 'NAME="ens3"'),
    ("iface ens3 inet dhcp\n  up ip xfrm state add src 10.0.0.1 enc aes 0xZq9wXk3mPz\n  mtu 1400\n", "mtu 1400"),
    # systemd.netdev, networkd, wireguard, macsec, l2tp
    ("[WireGuard]\nPrivateKey=Zq9wXk3mPz\nListenPort=51820\n", "[WireGuard]"),
    ("[WireGuardPeer]\nPresharedKey = Zq9wXk3mPz\n", "[WireGuardPeer]"),
    ("[MACsecTransmitAssociation]\nKey=Zq9wXk3mPz\n", ""),
    ("[Match]\nName=ens3\n[Network]\nAddress=10.0.0.5/24\n", "Address=10.0.0.5/24"),
    # NetworkManager's keyfiles and ifcfg
    ("[wifi-security]\nkey-mgmt=wpa-psk\npsk=Zq9wXk3mPz\n[ipv4]\nmethod=auto\n", "method=auto"),
    ("[vpn-secrets]\nanything=Zq9wXk3mPz\n", "[vpn-secrets]"),
    ("[802-1x]\neap=tls;\nprivate-key-password=Zq9wXk3mPz\nclient-cert=data:;base64,Zq9wXk3mPz\n", ""),
    ("DEVICE=eth0\nWPA_PSK='Zq9wXk3mPz'\nKEY_PASSPHRASE1=Zq9wXk3mPz\nIPADDR=10.0.0.5\n", "IPADDR=10.0.0.5"),
    # netplan
    ("network:\n  wifis:\n    w:\n      access-points: {cafe: {password: Zq9wXk3mPz}}\n", "wifis:"),
    ("a:\n  password: |\n    Zq9wXk3mPz\n    Zq9wXk3mPz\n  mtu: 1400\n", "mtu: 1400"),
    ("tunnels:\n  wg0:\n    keys:\n      private: Zq9wXk3mPz\n    addresses: [10.0.0.5/24]\n", "10.0.0.5/24"),
    ("tunnels:\n  wg0:\n    keys:\n    - Zq9wXk3mPz\n    addresses: [10.0.0.5/24]\n", "10.0.0.5/24"),
    ("auth:\n  method: peap\n  identity: Zq9wXk3mPz\n  anonymous-identity: '@Zq9wXk3mPz'\n", "peap"),
    ("[Service]\nEnvironment=TOKEN=Zq9wXk3mPz\nExecStart=/bin/true\n", "ExecStart=/bin/true"),
]


@pytest.mark.parametrize(("text", "keeps"), LINES)
def test_a_line_that_names_a_secret_keeps_its_first_word_alone(text, keeps):
    left = redact.lines(text)
    assert "Zq9wXk3mPz" not in left
    assert keeps in left


def test_what_this_package_writes_stays_as_it_is():
    text = (
        "auto ens3\niface ens3 inet static\n    address 10.0.0.5/24\n    gateway 10.0.0.1\n    mtu 1400\n"
        "    post-up ip route add 10.1.0.0/16 via 10.0.0.9 || true\n    dns-nameservers 10.0.0.2\n"
    )
    assert redact.lines(text) == text


CONFIGS = [
    "password: Zq9wXk3mPz",
    "users: [{name: a, passwd: Zq9wXk3mPz}]",
    "ssh_authorized_keys: [ssh-rsa Zq9wXk3mPz]",
    "write_files: [{content: Zq9wXk3mPz}]",
    "runcmd: [Zq9wXk3mPz]",
    "datasource: {NoCloud: {user-data: Zq9wXk3mPz, meta-data: {x: Zq9wXk3mPz}}}",
    "datasource: {MAAS: {consumer_key: Zq9wXk3mPz, token_secret: Zq9wXk3mPz}}",
    "datasource: {OpenStack: {x: {token: Zq9wXk3mPz}}}",
    "reporting: {a: {type: webhook, endpoint: 'https://Zq9wXk3mPz@h/', consumer_key: Zq9wXk3mPz}}",
    "landscape: {client: {registration_key: Zq9wXk3mPz}}",
    "network: {version: 2, wifis: {w: {access-points: {a: {password: Zq9wXk3mPz}}}}}",
    "network: {config: 'wpa-psk Zq9wXk3mPz'}",
    "network: {version: 2, tunnels: {w: {keys: {private: Zq9wXk3mPz}, key: Zq9wXk3mPz}}}",
    "network: {version: 2, ethernets: {e: {auth: {password: Zq9wXk3mPz, identity: Zq9wXk3mPz}}}}",
    "Zq9wXk3mPz",
    "[Zq9wXk3mPz]",
    "a: [Zq9wXk3mPz",
]


@pytest.mark.parametrize("text", CONFIGS)
def test_of_a_configuration_only_what_decides_on_the_network_is_kept(text):
    assert "Zq9wXk3mPz" not in redact.cloud_config(text)


def test_the_settings_that_matter_are_kept():
    text = "osnetd: {debounce: 2.0, ignore: [ens9]}\ndatasource_list: [OpenStack]\nruncmd: [x]\nnetwork: {config: disabled}\n"
    kept = yaml.safe_load(redact.cloud_config(text))
    assert kept == {
        "osnetd": {"debounce": 2.0, "ignore": ["ens9"]},
        "datasource_list": ["OpenStack"],
        "network": {"config": "disabled"},
        "runcmd": redact.REMOVED,
    }


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nZq9wXk3mPz\n-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nZq9wXk3mPz",
        "key ssh-ed25519 AAAAC3NzZq9wXk3mPzZq9wXk3mPzZq9wXk3mPz me@here",
        "root:$6$salt$Zq9wXk3mPzZq9wXk3mPz:1:",
        "root:$y$j9T$Zq9wXk3mPz$Zq9wXk3mPz:1:",
        "GET http://me:Zq9wXk3mPz@10.0.0.1/x",
        "https://10.0.0.1/?token=Zq9wXk3mPz&x=Zq9wXk3mPz",
        "Authorization: Bearer Zq9wXk3mPzZq9wXk3mPz",
    ],
)
def test_what_looks_like_a_key_a_hash_or_a_login_goes_wherever_it_stands(text):
    assert "Zq9wXk3mPz" not in redact.everywhere([])(text)


@given(st.text(min_size=8).filter(lambda text: text.strip() == text and "\n" not in text))
def test_a_known_secret_goes_wherever_it_stands(secret):
    clean = redact.everywhere([secret])
    assert secret not in clean("before %s after %s" % (secret, secret)) or secret in redact.REMOVED


def test_a_record_keeps_its_keys_and_loses_the_secrets_in_its_texts():
    drift = {"key": "fa:16:3e:00:00:01/phy", "differs": ["- wpa-psk Zq9wXk3mPz", "+ mtu 1400"]}
    inner = json.dumps({"text": "iface w inet dhcp\n  wpa-psk Zq9wXk3mPz\n", "keys": ["k"]})
    kept = redact.record(json.dumps({"drifted": [drift], "on_trial": inner}))
    assert (
        "Zq9wXk3mPz" not in kept and "fa:16:3e:00:00:01/phy" in kept and "mtu 1400" in kept and "iface w inet dhcp" in kept
    )
    assert redact.record("{") == "not JSON\n"


@given(st.text())
def test_any_text_can_be_read(text):
    redact.lines(text)
    redact.log(text)
    redact.cloud_config(text)
