# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""How QEMU shall run guests here: with KVM where a guest's kernel really comes up under it, emulated (TCG) elsewhere.

A /dev/kvm that can be opened proves nothing: some hypervisors show a paravirtual one that no guest starts on. So one
kernel is started for a moment.
"""

from __future__ import annotations

import functools
import os
import selectors
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

KERNEL_SPEAKS = b"Linux version"
PROBE_SECONDS = 8.0


# Emulated, a guest that begs for CPU time while it calibrates its TSC is wrong by any factor: its clock ran six times too
# fast on a host with a load of 20, and systemd gave up on services that had hardly begun. HPET keeps the host's time.
EMULATED_KERNEL = "clocksource=hpet tsc=unstable no_timer_check mitigations=off nokaslr"

# Six would do for a guest that has the host to itself. Beside five others everything took twenty times as long.
EMULATED_PATIENCE = 15.0


class Accel(NamedTuple):
    """`options` for QEMU and `kernel` for the guest's command line; `patience` multiplies every time limit of a guest."""

    name: str
    options: tuple[str, ...]
    kernel: str
    patience: float
    why: str


@functools.lru_cache(maxsize=None)
def choose(kernel: Path) -> Accel:
    """KVM or TCG; found out once in a process. OSNETD_ACCEL=tcg or kvm in the environment skips the probe."""
    wanted = os.environ.get("OSNETD_ACCEL", "")
    if wanted == "kvm":
        return _kvm("asked for by OSNETD_ACCEL")
    reason = "asked for by OSNETD_ACCEL" if wanted == "tcg" else _why_not_kvm(kernel)
    if reason is None:
        return _kvm("a guest kernel started under it")
    options = ("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,-la57")
    return Accel("tcg", options, EMULATED_KERNEL, EMULATED_PATIENCE, reason)


def _kvm(why: str) -> Accel:
    return Accel("kvm", ("-accel", "kvm", "-cpu", "host,-arch-capabilities"), "", 1.0, why)


def _why_not_kvm(kernel: Path) -> str | None:
    """None when the kernel spoke under KVM; otherwise what happened instead, remembered until the host boots again."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm is not there or not ours to use"
    command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "256"]
    command += ["-kernel", str(kernel), "-append", "console=ttyS0 earlyprintk=serial panic=-1", "-serial", "stdio"]
    command += _kvm("").options
    note = kernel.with_name("no-kvm")
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
    if note.exists() and note.read_text().startswith(boot_id):
        return note.read_text()[len(boot_id) :]
    reason = _probe(command)
    if reason is not None:
        note.write_text(boot_id + reason)
    return reason


def _probe(command: list[str]) -> str | None:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    said = b""
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            deadline = time.monotonic() + PROBE_SECONDS
            while KERNEL_SPEAKS not in said:
                if not selector.select(max(deadline - time.monotonic(), 0)):
                    return f"no guest kernel spoke under KVM within {PROBE_SECONDS:.0f} s"
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    return f"QEMU ended under KVM: {said.decode(errors='replace').strip()[-200:]}"
                said += data
        return None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
