# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A small initrd for a virtio guest, made from a root tree without running anything in it.

initramfs-tools would need a chroot with /proc and /dev, and its udev costs seconds of emulated time at each boot. All
that a guest needs before its own systemd takes over is a handful of modules, inserted in the order of their
dependencies, and a mount of the disk.
"""

from __future__ import annotations

import gzip
import lzma
import subprocess
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple

from tests.lab.call import LabError

MODULES = "virtio_pci virtio_blk virtio_net virtio_console virtio_rng ext4 isofs crc32c_generic".split()
ROOT = "osnetd-root"  # the disk's serial number, and the label of its file system

# By the disk's serial number: not every busybox can tell labels (Debian 11's).
INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in $(cat /modules); do insmod "/lib/$module" || echo "initrd: $module was not inserted"; done
disk= tries=0
while [ -z "$disk" ] && [ "$tries" -lt 100 ]; do
    for block in /sys/block/*; do
        [ "$(cat "$block/serial" 2>/dev/null)" != {ROOT} ] || disk=/dev/${{block##*/}}
    done
    [ -n "$disk" ] || {{ usleep 50000; tries=$((tries + 1)); }}
done
mount -t ext4 "$disk" /root || {{ echo "initrd: no disk with the serial {ROOT} can be mounted"; poweroff -f; }}
umount /proc /sys
mount --move /dev /root/dev
exec switch_root /root /sbin/init
"""


class Member(NamedTuple):
    """One file, directory or link of a cpio archive; `mode` is that of stat(2), type included."""

    name: str
    mode: int
    data: bytes = b""


def build(root: Path, version: str) -> bytes:
    """The initrd for a root's kernel of this version, with the root's own busybox-static."""
    busybox = root / "bin/busybox"
    if not busybox.exists():
        raise LabError(f"{root} has no /bin/busybox: the root was made without busybox-static")
    modules_dir = root / "lib/modules" / version
    members = [Member(name, 0o040755) for name in ("bin", "dev", "lib", "proc", "root", "sys")]
    members.append(Member("bin/busybox", 0o100755, busybox.read_bytes()))
    names = []
    for path in load_order(modules_dir, MODULES):
        name = path.name.split(".ko")[0] + ".ko"
        names.append(name)
        members.append(Member(f"lib/{name}", 0o100644, _plain(path)))
    members.append(Member("modules", 0o100644, "\n".join(names).encode()))
    members.append(Member("init", 0o100755, INIT.encode()))
    return gzip.compress(b"".join(cpio(members)), compresslevel=1, mtime=0)


def load_order(modules_dir: Path, wanted: Iterable[str]) -> list[Path]:
    """The wanted modules' files and those of all that they need, each after what it needs, without what is built in."""
    needs: dict[str, tuple[str, list[str]]] = {}
    for line in (modules_dir / "modules.dep").read_text().splitlines():
        file, _, rest = line.partition(":")
        needs[_module_name(file)] = (file, [_module_name(item) for item in rest.split()])
    built_in = {_module_name(line) for line in (modules_dir / "modules.builtin").read_text().splitlines()}
    order: list[Path] = []

    def add(name: str) -> None:
        if name in built_in or name not in needs:
            return
        file, required = needs[name]
        if modules_dir / file in order:
            return
        for other in required:
            add(other)
        order.append(modules_dir / file)

    for name in wanted:
        add(name)
    return order


def cpio(members: Iterable[Member]) -> Iterator[bytes]:
    """A "newc" archive (Linux, driver-api/early-userspace/buffer-format.rst), all owned by root, without times."""
    for inode, member in enumerate([*members, Member("TRAILER!!!", 0)], start=1):
        name = member.name.encode() + b"\0"
        fields = (inode, member.mode, 0, 0, 1, 0, len(member.data), 0, 0, 0, 0, len(name), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        yield _padded(header + name)
        yield _padded(member.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _module_name(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def _plain(path: Path) -> bytes:
    """A module's bytes; distributions ship them plain, xz or zstd."""
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", str(path)], check=True, stdout=subprocess.PIPE).stdout
    return path.read_bytes()
