# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Takes secrets out of what goes into a bundle. What is not known to be harmless is removed.

Three layers: of cloud-init's configuration only the settings that matter are kept; a line whose words name a secret
keeps its first word; and the secrets that this server knows (user-data, keys, passwords) are removed wherever they are.
"""

import json
import re
from typing import Any, Callable, Dict, FrozenSet, Iterable, List

REMOVED = "(removed)"
# Of a setting or an option: wpa-psk, PrivateKey, password, wireless-key, passphrase, 802-1x.client-cert, wep_key0.
_SECRET = re.compile(
    r"(?i)pass(w|phrase|\b|_)|psk|secret|token|cred|private|\bpin\b|(^|[-_.\s\"'{,])keys?\d?\b|key(\d|=|:|\s*=)|wep|wpa|"
    r"\b(auth|ca|client|phase2)\b.*cert|identity|leap|community|authorization|bearer|random_seed|user-?_?data|environment|\bxfrm\b|macsec"
)
_HOOK = re.compile(r"\s*(pre-up|up|post-up|pre-down|down|post-down|test|script|map)\s+(\S*)")
_HARMLESS_HOOKS = frozenset(["ip", "route", "sysctl", "ifenslave", "ethtool", "resolvconf"])
_OTHER_COMMAND = re.compile(r"[;&|`]|\$\(|\bexec\b")  # a shell's, or of `ip netns exec`: what follows may be anything
_UDEV_COMMAND = re.compile(r"\b((?:RUN|PROGRAM|IMPORT)(?:\{\w+\})?\s*[+:]?=+\s*)\"[^\"]*\"")
_SECRET_SECTION = re.compile(r"(?i)\[.*(secret|802-1x|security|vpn|wireguard|macsec)")
_ANYWHERE = (
    (re.compile(r"-----BEGIN [^-]*-----.*?(-----END [^-]*-----|\Z)", re.DOTALL), REMOVED),
    (re.compile(r"(ssh-[a-z0-9-]+|ecdsa-sha2-\S+|sk-\S+@openssh\.com)\s+[A-Za-z0-9+/=]{16,}"), REMOVED),
    (re.compile(r"\$[0-9a-z]{1,8}\$[./A-Za-z0-9$=,+-]{8,}"), REMOVED),  # crypt(5)
    (re.compile(r"(://)[^/\s@]*@"), r"\1%s@" % REMOVED),
    (re.compile(r"(?i)(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), REMOVED),
    (re.compile(r"([?&][^=&\s]+=)[^&\s\"']+"), r"\1%s" % REMOVED),
)
# Of cloud-init's configuration: the settings that decide on the network and on the datasource.
_KEPT = frozenset(
    ["osnetd", "network", "updates", "datasource_list", "datasource_pkg_list", "manual_cache_clean"]
)
_KEPT_DATASOURCES = frozenset(["ConfigDrive", "OpenStack"])
_LEAST_LENGTH = 6  # of a secret that is looked for: shorter ones are parts of ordinary words


def lines(text: str) -> str:
    """Returns a text of lines (interfaces, .network, keyfile, YAML) without comments, secrets and foreign commands."""
    kept: List[str] = []
    deeper = -1  # the indent of a line whose value was removed: what is indented more belongs to it
    in_secret = False
    for line in re.sub(r"\\\n", " ", text).splitlines():  # a command's or a value's rest is a part of its line
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        if bare.startswith("["):
            in_secret = bool(_SECRET_SECTION.match(bare))
        if deeper >= 0 and bare and (indent > deeper or bare.startswith("- ")):
            continue
        deeper = -1 if bare else deeper
        hook = _HOOK.match(line)
        if not bare or bare.startswith(("#", ";")):
            continue
        if (in_secret and not bare.startswith("[")) or (_SECRET.search(bare) and not bare.startswith("[")):
            first = re.split(r"[\s=:]", bare, maxsplit=1)[0]
            kept.append("%s%s %s" % (" " * indent, first if re.match(r"[\w.-]+\Z", first) else "", REMOVED))
            deeper = indent
        elif hook and not _is_harmless(hook.group(2), bare):
            kept.append("%s%s %s" % (" " * indent, hook.group(1), REMOVED))
        else:
            kept.append(_UDEV_COMMAND.sub(r'\1"%s"' % REMOVED, line))
    return "".join(line + "\n" for line in kept)


def _is_harmless(program: str, line: str) -> bool:
    """True for a hook that only calls a program of the network; `|| true` at its end is one that is usual."""
    rest = re.sub(r"\|\|\s*(true|:)\s*\Z", "", line)
    return program.rpartition("/")[2] in _HARMLESS_HOOKS and not _OTHER_COMMAND.search(rest)


def cloud_config(text: str) -> str:
    """Returns cloud-init's configuration with the settings that matter here, and the names of the others."""
    import yaml

    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        return "not valid YAML: %s\n" % type(exc).__name__
    if not isinstance(config, dict):
        return "not a mapping\n"
    kept: Dict[str, Any] = {}
    for name, value in config.items():
        if name in _KEPT:
            kept[name] = value_of(value)
        elif name == "datasource" and isinstance(value, dict):
            known = {key: value_of(one) for key, one in value.items() if key in _KEPT_DATASOURCES}
            kept[name] = dict(dict.fromkeys(map(str, value), REMOVED), **known)
        elif name == "reporting" and isinstance(value, dict):
            types = {str(key): one.get("type") if isinstance(one, dict) else REMOVED for key, one in value.items()}
            kept[name] = types
        else:
            kept[str(name)] = REMOVED
    return yaml.safe_dump(kept, default_flow_style=False)


def value_of(value: Any) -> Any:
    """Returns a value of a configuration without what its keys, or texts in it, call a secret."""
    if isinstance(value, dict):
        return {
            key: REMOVED if isinstance(key, str) and _SECRET.search(key) else value_of(one)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [value_of(one) for one in value]
    return REMOVED if isinstance(value, str) and _SECRET.search(value) else value


def record(text: str) -> str:
    """Returns a JSON file of ours, in which texts of configuration files are treated as such."""
    try:
        return json.dumps(_of_record(json.loads(text), ""), indent=1, sort_keys=True) + "\n"
    except (ValueError, RecursionError):
        return "not JSON\n"


def _of_record(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _of_record(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [_of_record(one, name) for one in value]
    if isinstance(value, str) and value[:1] == "{":
        return record(value)
    if isinstance(value, str) and ("\n" in value or name in ("text", "differs", "diff", "unsaid")):
        return lines(value)
    return value


def log(text: str) -> str:
    """Returns the lines of a log without those that name a secret."""
    return "".join(line + "\n" for line in text.splitlines() if not _SECRET.search(line))


def everywhere(secrets: Iterable[str]) -> Callable[[str], str]:
    """Returns a function that removes these secrets, and what looks like a key, a hash or a login, from a text."""
    known = sorted({one for one in secrets if len(one) >= _LEAST_LENGTH}, key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in known:
            if secret in text:
                text = text.replace(secret, REMOVED)
        for pattern, instead in _ANYWHERE:
            text = pattern.sub(instead, text)
        return text

    return clean


def secrets_in(value: Any, told: bool = False) -> FrozenSet[str]:
    """Returns the strings of a document whose keys call them a secret; with `told` all of its strings."""
    if isinstance(value, dict):
        found = [secrets_in(one, told or bool(_SECRET.search(str(key)))) for key, one in value.items()]
        return frozenset().union(*found)
    if isinstance(value, list):
        return frozenset().union(*(secrets_in(one, told) for one in value))
    if not told or not isinstance(value, str):
        return frozenset()
    return frozenset([value, *pieces(value)])


def pieces(text: str) -> List[str]:
    """Returns the lines of a text, and the values in them that are long enough to be told from ordinary words."""
    found = [line.strip() for line in text.splitlines()]
    values = [re.split(r"[:=]\s*", line, maxsplit=1)[-1].strip(" \"'") for line in found]
    return [one for one in found + values if len(one) >= 8]
