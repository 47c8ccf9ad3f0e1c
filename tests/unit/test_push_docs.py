# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""What docs/guest-agent.md has an operator do, and the manual page of osnetd-push beside the program."""

import os
import re
import subprocess

import pytest

from osnetd_push import cli, errors
from osnetd_push.push import _WORDS

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def text(*path):
    with open(os.path.join(TOP, *path), encoding="utf-8") as fh:
        return fh.read()


GUIDE, MANUAL = text("docs", "guest-agent.md"), text("docs", "man", "osnetd-push.1.rst")

# The settings of /etc/sysconfig/qemu-ga as the distributions ship them, shortened; and as somebody left them.
SETTINGS = [
    ("BLACKLIST_RPC=guest-file-open,guest-file-close,guest-exec,guest-exec-status", "BLACKLIST_RPC=guest-file-open,guest-file-close"),
    ('BLOCK_RPCS="guest-exec,guest-exec-status,guest-file-open"', 'BLOCK_RPCS="guest-file-open"'),
    ("BLOCK_RPCS=guest-exec-status,guest-exec", "BLOCK_RPCS="),
    ("BLACKLIST_RPC=", "BLACKLIST_RPC="),
    (
        'FILTER_RPC_ARGS="--allow-rpcs=guest-sync-delimited,guest-ping,guest-info"',
        'FILTER_RPC_ARGS="--allow-rpcs=guest-exec,guest-exec-status,guest-sync-delimited,guest-ping,guest-info"',
    ),
    (
        'FILTER_RPC_ARGS="--allow-rpcs=guest-ping,guest-exec"',
        'FILTER_RPC_ARGS="--allow-rpcs=guest-exec,guest-exec-status,guest-ping"',
    ),
    ('FILTER_RPC_ARGS="--block-rpcs=guest-exec,guest-exec-status"', 'FILTER_RPC_ARGS="--block-rpcs="'),
    (
        'FILTER_RPC_ARGS="--allow-rpcs=guest-ping --block-rpcs=guest-file-open,guest-exec"',
        'FILTER_RPC_ARGS="--allow-rpcs=guest-exec,guest-exec-status,guest-ping --block-rpcs=guest-file-open"',
    ),
    ('#FILTER_RPC_ARGS="--allow-rpcs=guest-ping"', '#FILTER_RPC_ARGS="--allow-rpcs=guest-ping"'),
    ("FSFREEZE_HOOK_PATHNAME=/etc/qemu-ga/guest-exec", "FSFREEZE_HOOK_PATHNAME=/etc/qemu-ga/guest-exec"),
]


@pytest.mark.parametrize("before, after", SETTINGS)  # noqa: PT006
def test_the_sed_of_the_guide_allows_guest_exec(tmp_path, before, after):
    command = re.search(r"^    (sed -i -E .*?qemu-ga)$", GUIDE, re.MULTILINE | re.DOTALL).group(1)
    path = tmp_path / "qemu-ga"
    path.write_text("# comment, guest-exec,\n%s\n" % before)
    for _twice in range(2):
        subprocess.run(["sh", "-c", command.replace("/etc/sysconfig/qemu-ga", str(path))], check=True)
        assert path.read_text() == "# comment, guest-exec,\n%s\n" % after


def test_the_manual_has_each_option_and_no_other():
    ours = {option for action in cli.parser()._actions for option in action.option_strings if option.startswith("--")}
    synopsis_and_options = MANUAL.split("EXIT STATUS")[0]
    assert set(re.findall(r"\*\*(--[a-z-]+)\*\*", synopsis_and_options)) - {"--json"} == ours - {"--json"}


def test_the_manual_has_each_exit_status():
    told = {int(number) for number in re.findall(r"^\*\*(\d+)\*\*", MANUAL.split("EXIT STATUS")[1], re.MULTILINE)}
    ours = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert told == (ours | set(_WORDS) | {128}) - {7}  # 7 is of plan --exit-code, which is not asked for
