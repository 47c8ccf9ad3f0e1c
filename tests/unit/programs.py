# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Stand-ins for the system's programs: shell scripts that note how they were called."""

from cloudinit_osnetd.system import command


class Programs:
    def __init__(self, log):
        self.log = log

    def ran(self):
        return self.log.read_text().splitlines() if self.log.exists() else []


def programs(directory, monkeypatch, scripts):
    """Put `scripts` (name to shell code) where command.run looks."""
    bin_ = directory / "bin"
    bin_.mkdir()
    log = directory / "ran"
    for name, script in scripts.items():
        path = bin_ / name
        path.write_text('#!/bin/sh\necho "%s $*" >> %s\n%s\n' % (name, log, script))
        path.chmod(0o755)
    monkeypatch.setattr(command, "PATH", "%s:/usr/bin:/bin" % bin_)
    monkeypatch.setattr(command, "ran", [])
    return Programs(log)
