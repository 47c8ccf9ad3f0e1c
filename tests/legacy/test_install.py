# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`install` and `uninstall`, for each kind of init: what is put in place, that it would work, and what is left behind."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from typing import Dict, List

import pytest

from .conftest import ENDS, Place, document, link, static

# What tells an image of each kind from the others.
INITS: Dict[str, List[str]] = {
    "systemd": ["usr/lib/systemd/systemd"],
    "upstart": ["etc/init/networking.conf"],
    "sysv": ["etc/inittab"],
}
PROGRAM = "usr/local/lib/osnetd-legacy/osnetd_legacy.py"


def prepare(place: Place, kind: str) -> None:
    for path in INITS[kind]:
        place.write(path, "")


@pytest.mark.parametrize("kind", INITS)
@pytest.mark.parametrize("version", ENDS)
def test_nothing_is_left_behind(place: Place, kind: str, version: str) -> None:
    prepare(place, kind)
    (place.root / "etc/cloud/cloud.cfg.d").mkdir(parents=True)
    (place.root / "etc/dhcp/dhclient-exit-hooks.d").mkdir(parents=True)
    before = place.files()
    assert place.run("install", "--no-start", "--entry-point").status == 0
    installed = {path for path in place.files() if path not in before}
    assert PROGRAM in installed and "etc/udev/rules.d/90-osnetd-legacy.rules" in installed
    assert place.run("install", "--no-start", "--entry-point").status == 0, "twice"
    assert {path for path in place.files() if path not in before} == installed
    assert place.apply(document(link(0), static(0, "10.0.0.5/24"))).status == 0
    assert (place.root / "etc/cloud/cloud.cfg.d/99-osnetd-legacy.cfg").exists()
    assert place.run("uninstall", "--restore").status == 0
    assert place.files() == before
    links = [path for path in place.root.rglob("*") if path.is_symlink()]
    assert links == [] and not list(place.root.rglob("*osnetd*"))


def test_somebody_elses_entry_point_stays(place: Place) -> None:
    place.write("scripts/apply-network-config", "#!/bin/sh\n# mine\n")
    assert place.run("install", "--no-start", "--entry-point").status == 0
    assert place.run("uninstall").status == 0
    assert place.read("scripts/apply-network-config") == "#!/bin/sh\n# mine\n"


@pytest.mark.parametrize("kind", INITS)
def test_scripts_are_shells_and_name_the_python_that_installed(place: Place, kind: str) -> None:
    prepare(place, kind)
    assert place.run("install", "--no-start", "--entry-point").status == 0
    for path in place.files():
        text = place.read(path)
        if path.startswith(("etc/init", "etc/systemd", "scripts/")) and "osnetd" in text:
            assert place.python in text, path
            assert "/usr/local/lib/osnetd-legacy/osnetd_legacy.py" in text
            assert str(place.root) not in text, f"{path}: a path of the image's builder"
            assert "%" not in text.replace("%i", ""), f"{path}: a word was not filled in"
        if text.startswith("#!/bin/sh"):
            assert (place.root / path).stat().st_mode & stat.S_IXUSR
            subprocess.run(["sh", "-n", str(place.root / path)], check=True)
            if shutil.which("shellcheck"):
                subprocess.run(["shellcheck", str(place.root / path)], check=True)


def test_the_init_script_starts_early_and_then_a_look_in_the_background(place: Place) -> None:
    """Run with a stand-in for Python, which notes what it is called with."""
    prepare(place, "sysv")
    place.write("usr/bin/note", f'#!/bin/sh\necho "$@" >> {place.root}/called\n')
    (place.root / "usr/bin/note").chmod(0o755)
    assert place.run("install", "--no-start").status == 0
    script = place.root / "etc/init.d/osnetd-legacy"
    program = place.root / PROGRAM
    text = script.read_text().replace("/usr/local/lib", f"{place.root}/usr/local/lib").replace(place.python, f"{place.root}/usr/bin/note")
    script.write_text(text)
    for word, status in (("start", 0), ("stop", 0), ("status", 0), ("restart", 0), ("dance", 2)):
        assert subprocess.run(["sh", str(script), word], stderr=subprocess.DEVNULL, check=False).returncode == status
    assert place.read("called").splitlines() == [f"{program} early", f"{program} spawn --event boot", f"{program} spawn --event look"]
    # Its program is gone: a boot goes on.
    program.unlink()
    assert subprocess.run(["sh", str(script), "start"], check=False).returncode == 0
    for needed in ("chkconfig: 2345 09 91", "X-Start-Before: networking", "Default-Start: S"):
        assert needed in text, "chkconfig(8) and insserv(8) read these"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_hook_gives_a_leases_classless_routes_the_metric_of_the_nic(place: Place, shell: str) -> None:
    (place.root / "etc/dhcp/dhclient-exit-hooks.d").mkdir(parents=True)
    assert place.run("install", "--no-start").status == 0
    hook = place.root / "etc/dhcp/dhclient-exit-hooks.d/osnetd-legacy"
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(hook)], check=True)
    place.write("run/osnetd-legacy/dhcp/eth0", "2100\n")
    assert str(place.root) not in hook.read_text()
    hook.write_text(hook.read_text().replace("/run/osnetd-legacy", f"{place.root}/run/osnetd-legacy"))
    place.ip("link set eth0 up", "address add 10.0.0.5/24 dev eth0", "link set eth1 up", "address add 10.1.0.5/24 dev eth1")
    routes = "32 169 254 169 254 10 0 0 2 0 10 0 0 1 9 10 128 10 0 0 3 24 10 7 7 0 0 0 0"
    for name in ("eth0", "eth1"):
        script = f"reason=BOUND interface={name} new_rfc3442_classless_static_routes='{routes}'; . {hook}; echo left=${{new_rfc3442_classless_static_routes-}}"
        words = ["ip", "netns", "exec", place.namespace, shell, "-euc", script]
        left = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
        # Of a NIC that is none of ours the distribution's own hook sets them.
        assert left == ("left=\n" if name == "eth0" else f"left={routes}\n")
    assert place.routes("eth0") == [
        "4: 10.128.0.0/9 via 10.0.0.3 metric 2100",
        "4: 10.7.7.0/24 metric 2100",
        "4: 169.254.169.254 via 10.0.0.2 metric 2100",
        "4: default via 10.0.0.1 metric 2100",
    ]
    assert place.routes("eth1") == []


def test_on_enterprise_linux_6_there_is_no_run(place: Place) -> None:
    (place.root / "run").rmdir()
    assert place.run("install", "--no-start").status == 0
    assert 'TEST!="/var/run/osnetd-legacy/listening"' in place.read("etc/udev/rules.d/90-osnetd-legacy.rules")
    assert place.apply(document(link(0), static(0, "10.0.0.5/24"))).status == 0
    assert not (place.root / "run").exists()


def test_the_rule_jumps_to_labels_that_are_there_and_uses_words_that_old_udev_knows(place: Place) -> None:
    assert place.run("install", "--no-start").status == 0
    rule = place.read("etc/udev/rules.d/90-osnetd-legacy.rules")
    lines = [line for line in rule.splitlines() if line and not line.startswith("#")]
    labels = re.findall(r'LABEL="(\w+)"', rule)
    assert set(re.findall(r'GOTO="(\w+)"', rule)) == set(labels)
    assert len(labels) == len(set(labels))
    # udev 147 (Enterprise Linux 6): udev(7) of that day.
    for line in lines:
        for key in re.findall(r'(?:^|, )([A-Z]+)(?:\{\w+\})?(?:==|!=|\+=|=)"', line):
            assert key in ("SUBSYSTEM", "ACTION", "TEST", "ENV", "DEVPATH", "GOTO", "LABEL", "RUN"), line
    assert "$env{SEQNUM}" in rule and "$env{ACTION}" in rule


def test_units_are_what_systemd_takes(place: Place) -> None:
    prepare(place, "systemd")
    assert place.run("install", "--no-start").status == 0
    analyze = shutil.which("systemd-analyze")
    units = sorted((place.root / "etc/systemd/system").glob("*.service"))
    assert [unit.name for unit in units] == ["osnetd-legacy-early.service", "osnetd-legacy.service", "osnetd-legacy@.service"]
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    words = [str(units[0]), str(units[1]), str(units[2]).replace("@.", "@add-1.")]
    done = subprocess.run([analyze, "--man=no", "verify", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if "osnetd-legacy" in line and "Failed to" not in line and "executable" not in line]
    assert said == []


def test_there_is_nothing_to_install_for_where_no_network_configuration_is_known(place: Place) -> None:
    shutil.rmtree(place.root / "etc")
    assert place.run("install", "--no-start").status == 5
    assert place.files() == {}
