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
    ("iface wlan0 inet dhcp\n    wpa-psk SECRET\n", "iface wlan0 inet dhcp"),
    ("iface wlan0 inet dhcp\n    wireless-key s:SECRET\n    mtu 1400\n", "mtu 1400"),
    (
        "iface ppp0 inet ppp\n    pre-up /usr/local/bin/login SECRET\n    up ip route add 10.1.0.0/16 via 10.0.0.1\n",
        "via 10.0.0.1",
    ),
    ("# the password is SECRET\nauto ens3\n", "auto ens3"),
    ("iface ens3 inet dhcp\n    up /usr/bin/login \\\n    SECRET \\\n    SECRET\n    mtu 1400\n", "mtu 1400"),
    ("iface w inet dhcp\nwpa-psk \\\nSECRET\nmtu 1400\n", "mtu 1400"),
    ("iface ens3 inet dhcp\n  up ip link set ens3 up && login SECRET\n  down ip route flush; login SECRET\n", "ens3"),
    ("iface ens3 inet dhcp\n  up ip route add 10.1.0.0/16 via $(login SECRET)\n  mtu 1400\n", "mtu 1400"),
    ("iface ens3 inet dhcp\n  up ip xfrm state add src 10.0.0.1 enc aes 0xSECRET\n  mtu 1400\n", "mtu 1400"),
    # systemd.netdev, networkd, wireguard, macsec, l2tp
    ("[WireGuard]\nPrivateKey=SECRET\nListenPort=51820\n", "[WireGuard]"),
    ("[WireGuardPeer]\nPresharedKey = SECRET\n", "[WireGuardPeer]"),
    ("[MACsecTransmitAssociation]\nKey=SECRET\n", ""),
    ("[Match]\nName=ens3\n[Network]\nAddress=10.0.0.5/24\n", "Address=10.0.0.5/24"),
    # NetworkManager's keyfiles and ifcfg
    ("[wifi-security]\nkey-mgmt=wpa-psk\npsk=SECRET\n[ipv4]\nmethod=auto\n", "method=auto"),
    ("[vpn-secrets]\nanything=SECRET\n", "[vpn-secrets]"),
    ("[802-1x]\neap=tls;\nprivate-key-password=SECRET\nclient-cert=data:;base64,SECRET\n", ""),
    ("DEVICE=eth0\nWPA_PSK='SECRET'\nKEY_PASSPHRASE1=SECRET\nIPADDR=10.0.0.5\n", "IPADDR=10.0.0.5"),
    # netplan
    ("network:\n  wifis:\n    w:\n      access-points: {cafe: {password: SECRET}}\n", "wifis:"),
    ("a:\n  password: |\n    SECRET\n    SECRET\n  mtu: 1400\n", "mtu: 1400"),
    ("tunnels:\n  wg0:\n    keys:\n      private: SECRET\n    addresses: [10.0.0.5/24]\n", "10.0.0.5/24"),
    ("tunnels:\n  wg0:\n    keys:\n    - SECRET\n    addresses: [10.0.0.5/24]\n", "10.0.0.5/24"),
    ("auth:\n  method: peap\n  identity: SECRET\n  anonymous-identity: '@SECRET'\n", "peap"),
    ("[Service]\nEnvironment=TOKEN=SECRET\nExecStart=/bin/true\n", "ExecStart=/bin/true"),
]


@pytest.mark.parametrize(("text", "keeps"), LINES)
def test_a_line_that_names_a_secret_keeps_its_first_word_alone(text, keeps):
    left = redact.lines(text)
    assert "SECRET" not in left
    assert keeps in left


def test_what_this_package_writes_stays_as_it_is():
    text = (
        "auto ens3\niface ens3 inet static\n    address 10.0.0.5/24\n    gateway 10.0.0.1\n    mtu 1400\n"
        "    post-up ip route add 10.1.0.0/16 via 10.0.0.9 || true\n    dns-nameservers 10.0.0.2\n"
    )
    assert redact.lines(text) == text


CONFIGS = [
    "password: SECRET",
    "users: [{name: a, passwd: SECRET}]",
    "ssh_authorized_keys: [ssh-rsa SECRET]",
    "write_files: [{content: SECRET}]",
    "runcmd: [SECRET]",
    "datasource: {NoCloud: {user-data: SECRET, meta-data: {x: SECRET}}}",
    "datasource: {MAAS: {consumer_key: SECRET, token_secret: SECRET}}",
    "datasource: {OpenStack: {x: {token: SECRET}}}",
    "reporting: {a: {type: webhook, endpoint: 'https://SECRET@h/', consumer_key: SECRET}}",
    "landscape: {client: {registration_key: SECRET}}",
    "network: {version: 2, wifis: {w: {access-points: {a: {password: SECRET}}}}}",
    "network: {version: 2, tunnels: {w: {keys: {private: SECRET}, key: SECRET}}}",
    "network: {version: 2, ethernets: {e: {auth: {password: SECRET, identity: SECRET}}}}",
    "SECRET",
    "[SECRET]",
    "a: [SECRET",
]


@pytest.mark.parametrize("text", CONFIGS)
def test_of_a_configuration_only_what_decides_on_the_network_is_kept(text):
    assert "SECRET" not in redact.cloud_config(text)


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
        "-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET\n-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nSECRET",
        "key ssh-ed25519 AAAAC3NzSECRETSECRETSECRET me@here",
        "root:$6$salt$SECRETSECRET:1:",
        "root:$y$j9T$SECRET$SECRET:1:",
        "GET http://me:SECRET@10.0.0.1/x",
        "https://10.0.0.1/?token=SECRET&x=SECRET",
        "Authorization: Bearer SECRETSECRET",
    ],
)
def test_what_looks_like_a_key_a_hash_or_a_login_goes_wherever_it_stands(text):
    assert "SECRET" not in redact.everywhere([])(text)


@given(st.text(min_size=8).filter(lambda text: text.strip() == text and "\n" not in text))
def test_a_known_secret_goes_wherever_it_stands(secret):
    clean = redact.everywhere([secret])
    assert secret not in clean("before %s after %s" % (secret, secret)) or secret in redact.REMOVED


def test_a_record_keeps_its_keys_and_loses_the_secrets_in_its_texts():
    drift = {"key": "fa:16:3e:00:00:01/phy", "differs": ["- wpa-psk SECRET", "+ mtu 1400"]}
    inner = json.dumps({"text": "iface w inet dhcp\n  wpa-psk SECRET\n", "keys": ["k"]})
    kept = redact.record(json.dumps({"drifted": [drift], "on_trial": inner}))
    assert (
        "SECRET" not in kept and "fa:16:3e:00:00:01/phy" in kept and "mtu 1400" in kept and "iface w inet dhcp" in kept
    )
    assert redact.record("{") == "not JSON\n"


@given(st.text())
def test_any_text_can_be_read(text):
    redact.lines(text)
    redact.log(text)
    redact.cloud_config(text)
