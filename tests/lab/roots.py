# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Guest roots: bootstrapped once, cached as tarballs, extracted and customised, the package installed as a layer on top.

    tarball(recipe)              .lab/roots/<key>.tar          mmdebstrap, about half a minute
    tree(suite, backend)         .lab/trees/<key>/             extracted, with the lab's files
    tree(suite, backend, deb)    .lab/trees/<key>+<deb>/       what `apt-get install ./x.deb` changed, an overlay layer
    on_top(tree, name, change)   .lab/trees/<...>+<name>/      what some function changed, another layer

Every step is made beside its place and moved into it under a lock, so that any number of test processes may ask.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterator, NamedTuple, Optional, Tuple

from tests.lab import mirror, run
from tests.lab.call import call
from tests.lab.progress import step
from tests.lab.recipe import NETWORK_MANAGER, Recipe

_KEPT_LAYERS = 6
_in_use: Dict[Path, int] = {}  # open lock files: a tree that a living process uses is not pruned


class Tree(NamedTuple):
    """A read-only root: the directories that make it up, topmost first."""

    layers: Tuple[Path, ...]

    @property
    def lowerdir(self) -> str:
        """For overlayfs."""
        return ":".join(str(layer) for layer in self.layers)

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Path]:
        """The whole root at one path, with changes thrown away: to copy it from, or to run something in it."""
        with tempfile.TemporaryDirectory(dir=run.current().dir) as scratch:
            with overlay(self.lowerdir, Path(scratch)) as root:
                yield root


def tree(
    suite: str,
    backend: str,
    deb: Optional[Path] = None,
    vm: bool = False,
    without: Tuple[str, ...] = (),
    also: Tuple[str, ...] = (),
) -> Tree:
    """The root of a kind of guest, with the package under test installed by apt when `deb` is given."""
    recipe = Recipe(suite, backend, vm, without, also)
    base = _made(_trees() / recipe.tree_key, lambda path: _extract(recipe, path))
    if deb is None:
        return Tree((base,))
    digest = hashlib.sha256(Path(deb).read_bytes()).hexdigest()[:12]
    layer = _made(_trees() / f"{recipe.tree_key}+{digest}", lambda path: _install(base, Path(deb), path))
    _prune_layers()
    return Tree((layer, base))


def on_top(tree: Tree, name: str, change: Callable[[Path], None]) -> Tree:
    """The tree with what `change` does to its root as one more layer. `name` stands for what that is."""

    def make(layer: Path) -> None:
        directory = _beside(layer, "change")
        shutil.rmtree(directory, ignore_errors=True)
        with overlay(tree.lowerdir, directory) as root:
            change(root)
        (directory / "upper").rename(layer)
        shutil.rmtree(directory, ignore_errors=True)

    layer = _made(_trees() / f"{tree.layers[0].name}+{name}", make)
    return Tree((layer, *tree.layers))


def tarball(recipe: Recipe) -> Path:
    """The bootstrapped root of a recipe, before the lab's own files."""
    path = run.lab_dir() / "roots" / f"{recipe.key}.tar"
    with run.locked(path.with_suffix(".lock")):
        if not path.exists():
            _bootstrap(recipe, path)
    return path


@contextlib.contextmanager
def overlay(lowerdir: str, directory: Path) -> Iterator[Path]:
    """Mount an overlay whose changes go to `directory`/upper, for the time of the block."""
    root = mount_overlay(lowerdir, directory)
    try:
        yield root
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True)


def mount_overlay(lowerdir: str, directory: Path) -> Path:
    """Mount an overlay at `directory`/root whose changes go to `directory`/upper."""
    for name in ("upper", "work", "root"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lowerdir},upperdir={directory}/upper,workdir={directory}/work"
    # What overlayfs notes of a directory is an attribute that only the real root may set, unless told otherwise.
    options += ",userxattr" if run.in_user_namespace() else ""
    call(["mount", "-t", "overlay", "osnetd-lab", "-o", options, f"{directory}/root"], "mounting an overlay")
    return directory / "root"


def _trees() -> Path:
    return run.lab_dir() / "trees"


def _made(path: Path, make: Callable[[Path], None]) -> Path:
    """The directory at `path`, made by `make` if it is not there, and marked as in use until this process ends."""
    with run.locked(_beside(path, "making")):
        if not path.exists():
            unfinished = _beside(path, "unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(path)
        os.utime(path)
        if path not in _in_use:
            # A bare descriptor: it is held until the process ends, and nobody has to close it.
            _in_use[path] = os.open(_beside(path, "users"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(_in_use[path], fcntl.LOCK_SH)
    return path


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.{what}")


def _bootstrap(recipe: Recipe, path: Path) -> None:
    unfinished = path.with_suffix(".unfinished")
    options = ["--variant=minbase", "--format=tar", f"--include={','.join(recipe.packages)}"]
    options += ["--aptopt=Apt::Install-Recommends false"]
    options += [f"--dpkgopt=path-exclude=/usr/share/{kind}/*" for kind in ("man", "doc", "locale")]
    with step(f"bootstrapping {recipe.suite} with {recipe.backend}{' for VMs' if recipe.vm else ''}"):
        mirror.bootstrap(recipe.suite, unfinished, *options)
    unfinished.rename(path)


def _extract(recipe: Recipe, root: Path) -> None:
    archive = tarball(recipe)
    with step(f"extracting {recipe.suite} with {recipe.backend}"):
        root.mkdir(parents=True)
        # Without device nodes: every guest gets a /dev of its own, and a mere user cannot make them.
        words = ["--numeric-owner", "--xattrs", "--exclude=./dev/*"]
        call(["tar", "-C", str(root), *words, "-xf", str(archive)], "extracting a root")
        for name, content in recipe.files().items():
            _replace(root / name).write_text(content)
        for name, target in recipe.links().items():
            _replace(root / name).symlink_to(target)
        if recipe.backend in NETWORK_MANAGER:
            _order_after_network_manager(root)
        if recipe.backend == "ifcfg":
            plugin = _ifcfg_plugin(recipe.suite)
            call(["tar", "-C", str(root), "--keep-directory-symlink", "-xf", str(plugin)], "unpacking the ifcfg-rh plugin")
        # As in a published image: host keys are made by cloud-init, man pages of what is installed later are kept.
        for leftover in (*root.glob("etc/ssh/ssh_host_*"), *root.glob("etc/dpkg/dpkg.cfg.d/*mmdebstrap*")):
            leftover.unlink()
        if "etc/resolv.conf" not in recipe.links():
            # mmdebstrap leaves the builder's own: a name server that does not answer costs cloud-init 30 s.
            _replace(root / "etc/resolv.conf").write_text("")


def _order_after_network_manager(root: Path) -> None:
    """Order cloud-init's network stage after NetworkManager, as on Enterprise Linux.

    Debian's units are before sysinit.target, NetworkManager is after it, and a drop-in cannot take a Before= away.
    """
    for unit in ("cloud-init-local", "cloud-init", "cloud-init-network"):
        path = root / f"usr/lib/systemd/system/{unit}.service"
        if path.exists():
            text = path.read_text().replace("Before=sysinit.target\n", "")
            if unit != "cloud-init-local":
                after = "After=NetworkManager.service\nAfter=NetworkManager-wait-online.service\n"
                text = text.replace("After=networking.service\n", after)
            _replace(root / f"etc/systemd/system/{unit}.service").write_text(text)


def _ifcfg_plugin(suite: str) -> Path:
    """NetworkManager of a suite with its plugin for ifcfg files, which Debian leaves out; built once, in minutes."""
    script = Path(__file__).with_name("ifcfg_plugin.sh")
    digest = hashlib.sha256(script.read_bytes()).hexdigest()[:10]
    path = run.lab_dir() / "packages" / f"ifcfg-rh-{suite}-{digest}.tar.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with run.locked(path.with_suffix(".lock")):
        if not path.exists():
            unfinished = path.with_suffix(".unfinished")
            words = ["env", f"MIRROR={mirror.debian_mirror() or ''}", "bash", str(script), suite, str(unfinished)]
            with step(f"building NetworkManager of {suite} with its ifcfg-rh plugin"):
                call(words, "building the ifcfg-rh plugin")
            unfinished.rename(path)
    return path


def _replace(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.exists():
        path.unlink()
    return path


def _install(base: Path, deb: Path, layer: Path) -> None:
    """Install the package as an administrator would, in a chroot, and keep what that changed."""
    directory = _beside(layer, "install")
    shutil.rmtree(directory, ignore_errors=True)
    with step(f"installing {deb.name} into {base.name}"), overlay(str(base), directory) as root:
        shutil.copy(deb, root / "root" / deb.name)
        # The mounts live in a namespace of their own and go with it. No service starts: there is no systemd in a chroot.
        script = (
            'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && '
            'chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive '
            'apt-get install -y --no-install-recommends "/root/$2"'
        )
        # A pid namespace as well: without one a mere user may not mount a /proc.
        call(["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, "sh", str(root), deb.name], f"installing {deb.name}")
        (root / "root" / deb.name).unlink()
    (directory / "upper").rename(layer)
    shutil.rmtree(directory, ignore_errors=True)


def _prune_layers() -> None:
    """Each build of the package makes a layer: keep the newest few, and those in use."""
    layers = [path for path in _trees().glob("*+*") if path.is_dir() and path.suffix == ""]
    for old in sorted(layers, key=lambda path: path.stat().st_mtime, reverse=True)[_KEPT_LAYERS:]:
        with run.locked(_beside(old, "making")), open(_beside(old, "users"), "a") as users:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
