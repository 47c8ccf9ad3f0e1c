# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Disk images for VMs: a root becomes a raw ext4 image, a kernel and an initrd, kept by what went into them.

    build(tree, files)      .lab/images/<key>/{disk.raw,vmlinuz,initrd}

No loop device: mke2fs copies the tree into the image. There is no partition table; QEMU loads the kernel itself. Guests
never write to an image: each has a qcow2 overlay on it, so any number of them share one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Mapping, NamedTuple

from tests.lab import documents, initrd, run, selinux
from tests.lab.call import LabError
from tests.lab.progress import step
from tests.lab.roots import Tree

SIZE = "4G"  # sparse: about 300 MB are used
_KEPT = 4
_CODE = "".join(path.read_text() for path in (Path(__file__), Path(initrd.__file__), Path(selinux.__file__)))
_in_use: dict[Path, object] = {}  # open lock files: an image that a living process uses is not pruned


class Image(NamedTuple):
    """What QEMU needs to boot a guest."""

    disk: Path
    kernel: Path
    initrd: Path


def build(tree: Tree, files: Mapping[str, str], journal: bool = False) -> Image:
    """The image of a root and some more files, made now unless it is there, not pruned before this process ends.

    The names of a tree's layers stand for their contents. journal: as a server's root has it, which outlives a power cut.
    """
    inputs = repr(([layer.name for layer in tree.layers], sorted(files.items()), journal, _CODE))
    digest = hashlib.sha256(inputs.encode()).hexdigest()[:12]
    folder = run.lab_dir() / "images" / f"{tree.layers[-1].name}-{digest}"
    with run.locked(_beside(folder, "making")):
        if not folder.exists():
            with step(f"making a disk image of {tree.layers[0].name}"):
                _make(tree, files, folder, journal)
        os.utime(folder)
        if folder not in _in_use:
            users = _beside(folder, "users").open("a")
            fcntl.flock(users, fcntl.LOCK_SH)
            _in_use[folder] = users
    _prune(folder.parent)
    return _at(folder)


def overlay(behind: Path, disk: Path) -> None:
    """A guest's own disk: empty, with a raw image behind it."""
    _run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(behind.resolve()), str(disk))


def _at(folder: Path) -> Image:
    return Image(folder / "disk.raw", folder / "vmlinuz", folder / "initrd")


def _make(tree: Tree, files: Mapping[str, str], folder: Path, journal: bool) -> None:
    """Builds beside the final place and renames, so that a folder that exists is whole."""
    unfinished = _beside(folder, "unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    made = _at(unfinished)
    with tree.mounted() as root:
        kernels = sorted(root.glob("boot/vmlinuz-*"))
        if not kernels:
            raise LabError(f"{tree.layers[-1]} has no kernel: it was not made for VMs")
        shutil.copyfile(kernels[-1], made.kernel)
        version = kernels[-1].name[len("vmlinuz-") :]
        made.initrd.write_bytes(initrd.build(root, version))
        for path in (root / "boot").iterdir():
            path.unlink()
        (root / "etc/fstab").write_text(f"LABEL={initrd.ROOT} / ext4 defaults,noatime 0 0\n")
        documents.write({name: content.encode() for name, content in files.items()}, root)
        if selinux.is_enforcing(root):
            selinux.label(root)  # mke2fs copies extended attributes as well
        options = ["-t", "ext4", "-O", "has_journal" if journal else "^has_journal", "-L", initrd.ROOT]
        _run("mke2fs", "-q", *options, "-d", str(root), str(made.disk), SIZE)
    unfinished.rename(folder)


def _prune(images: Path) -> None:
    """Each build of the package makes an image: keep the newest few, and those in use."""
    whole = [path for path in images.iterdir() if path.is_dir() and path.suffix != ".unfinished"]
    for old in sorted(whole, key=lambda path: path.stat().st_mtime, reverse=True)[_KEPT:]:
        with run.locked(_beside(old, "making")), _beside(old, "users").open("a") as users:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f"{folder.name}.{what}")


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        raise LabError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout.strip()[-2000:]}")
