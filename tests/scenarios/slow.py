# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""A backend that takes its time to put a NIC in force, so that something can happen meanwhile."""

from __future__ import annotations

from tests.lab import Container
from tests.scenarios.seen import wait_until

# The program by which a NIC is put in force. ifup goes by the name that it is called by.
_TOOL = {"networkd": "/usr/bin/networkctl", "netplan": "/usr/bin/networkctl", "ifupdown": "/sbin/ifup", "nm": "/usr/bin/nmcli"}
_TOOL["ifcfg"] = _TOOL["netplan_nm"] = _TOOL["nm"]
_AT_WORK = "/run/lab-at-work"
_SLOW = """
mkdir -p /root/quick
mv {tool} /root/quick/
ln -sf ifup /root/quick/ifdown
ln -sf ifup /root/quick/ifquery
cat > {tool} <<'END'
#!/bin/sh
name=${{0##*/}}
case "$name $1" in
    # By these udev, and the lab itself, look at what there is.
    ifquery*|networkctl\\ -*|nmcli\\ -[tg]) ;;
    *) echo "$name $*" >> {at_work}; sleep 3 ;;
esac
exec "/root/quick/$name" "$@"
END
chmod 755 {tool}
"""
# Where a NIC's addresses are edited without ifup: in these words, which are not ifup's own.
_SLOW_IP = """
ip=$(readlink -f $(command -v ip))
mv $ip $ip.quick
cat > $ip <<END
#!/bin/sh
case "\\$2 \\$3" in
    "address add") echo "ip \\$*" >> {at_work}; sleep 3 ;;
esac
exec $ip.quick "\\$@"
END
chmod 755 $ip
"""
_QUICK_IP = "ip=$(readlink -f $(command -v ip)); mv $ip.quick $ip"


def slow_down(guest: Container) -> None:
    """From now on the backend takes three seconds more for a NIC."""
    guest.run(_SLOW.format(tool=_TOOL[guest.backend], at_work=_AT_WORK))
    if guest.backend == "ifupdown":
        guest.run(_SLOW_IP.format(at_work=_AT_WORK))


def wait_until_at_work(guest: Container) -> None:
    wait_until(lambda: guest.run(f"test -e {_AT_WORK}", check=False).returncode == 0, 15 * guest.patience, "the backend at work")


def quicken(guest: Container) -> None:
    tool = _TOOL[guest.backend]
    if guest.backend == "ifupdown":
        guest.run(_QUICK_IP)
    guest.run(f"mv /root/quick/$(basename {tool}) {tool}; rm -f {_AT_WORK}")
