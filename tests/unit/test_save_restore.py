# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""save_restore: a real kernel accepts what it has sent, in a network namespace of its own (root)."""

import os
import shutil
import subprocess
import sys

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Each line as ip(8) takes it. The rules of a later one may lean on the earlier ones.
GIVEN = """
addr add 10.0.0.5/24 brd + dev v0
addr add 10.0.0.6/24 dev v0 label v0:1
addr add 10.0.0.200/32 dev v0
addr add 10.9.0.1 peer 10.9.0.2 dev v0
addr add 10.8.0.1/24 dev v0 noprefixroute
-6 addr add 2001:db8::5/64 dev v0 nodad
-6 addr add 2001:db8::6/64 dev v0 preferred_lft 0 nodad
route add 10.1.0.0/16 via 10.0.0.9
route add 10.2.0.0/16 proto 77 table 1234 nexthop via 10.0.0.9 weight 3 nexthop via 10.0.0.10
route add blackhole 10.3.0.0/16
route add 10.5.0.0/16 via 10.0.0.9 dev v0 mtu 1300 metric 7 src 10.0.0.6
route add default via 10.99.0.1 dev v0 onlink
route add 10.6.0.0/16 dev v0 scope link
route add prohibit 10.7.0.0/16 table 77 metric 5
route add throw 10.10.0.0/16 table 77
-6 route add 2001:db8:1::/48 via 2001:db8::9 src 2001:db8::5
-6 route add 2001:db8:2::/48 nexthop via 2001:db8::9 nexthop via 2001:db8::a
-6 route add unreachable 2001:db8:3::/48
nexthop add id 101 via 10.0.0.9 dev v0
nexthop add id 102 via 10.0.0.10 dev v0 proto 11
nexthop add id 103 dev v0
nexthop add id 104 via 10.98.0.1 dev v0 onlink
nexthop add id 7 blackhole
nexthop add id 100 group 101,3/102 proto 11
route add 10.11.0.0/16 nhid 100 proto 11 metric 20
route add 10.12.0.0/16 nhid 103
route add 10.13.0.0/16 nhid 7
route add 10.14.0.0/16 nhid 104 table 77 src 10.0.0.6
-6 nexthop add id 203 via 2001:db8::9 dev v0
-6 nexthop add id 204 via 2001:db8::a dev v0
nexthop add id 200 group 203/204
-6 route add 2001:db8:4::/48 nhid 203
-6 route add 2001:db8:5::/48 nhid 200 proto 11
rule add from 10.0.0.6 table 1234 prio 5
neigh add 10.0.0.77 lladdr 02:00:00:00:00:77 dev v0 nud permanent
neigh add proxy 10.0.0.78 dev v0
-6 neigh add 2001:db8::77 lladdr 02:00:00:00:00:78 dev v0 nud permanent router
-6 neigh add proxy 2001:db8::78 dev v0
rule add not fwmark 0x5/0xff lookup 51820
rule add table main suppress_prefixlength 0 prio 9
rule add goto 32766 prio 8 ipproto tcp dport 22-23
-6 rule add to 2001:db8::/32 uidrange 5-9 iif v0 blackhole
""".strip().splitlines()

HEAD = """
import json, subprocess, sys, time
sys.path.insert(0, {top!r})
from cloudinit_osnetd.apply import foreign
from cloudinit_osnetd.system import paths
from cloudinit_osnetd.core.records import Touch
paths.FOREIGN = {run!r} + "/theirs.json"

def ip(line):
    return subprocess.run(["ip"] + line.split(), check=True, stdout=subprocess.PIPE).stdout.decode()

def awaited(ready):
    until = time.monotonic() + 10
    while not ready():
        assert time.monotonic() < until, ip("address")
        time.sleep(0.01)

def await_carrier(*names):
    # On a busy machine the kernel may take a second to note it; it sets up IPv6 then, this route first.
    awaited(lambda: all("dev %s " % name in ip("-6 route show table local type multicast") for name in names))

def await_addresses():
    # The kernel makes an IPv6 address usable in a work queue, with `nodad` too.
    addresses = [line.split()[3].partition("/")[0] for line in ip("-6 -o addr show scope global").splitlines()]
    awaited(lambda: all("local %s dev " % one in ip("-6 route show table local type local") for one in addresses))

"""

SCRIPT = HEAD + """def picture():
    shown = ["-d -o addr show dev v0", "nexthop", "route show table all", "-6 route show table all", "rule", "-6 rule"]
    shown += ["neigh show nud permanent", "neigh show proxy", "-6 neigh show proxy"]
    lines = [line.split(" valid_lft ")[0].rstrip() for one in shown for line in ip(one).replace("\\\\", "").splitlines()]
    return sorted(line for line in lines if "fe80" not in line and "ff00" not in line)

for line in ["link set lo up", "link add v0 type veth peer name v1", "link set v0 up", "link set v1 up"]:
    ip(line)
await_carrier("v0")
for line in {given!r}:
    ip(line)
await_addresses()
before = picture()
kept = foreign.save([Touch("reconfigure", "", "v0", "")], {{"v0": foreign.Ours(frozenset(["10.0.0.5/24"]))}}, True)
taken = ["neigh flush dev v0 nud permanent", "neigh del proxy 10.0.0.78 dev v0", "-6 neigh del proxy 2001:db8::78 dev v0"]
taken += ["nexthop flush", "addr flush dev v0 scope global", "route flush table 1234", "route flush table 77", "route flush type blackhole"]
for line in taken:
    ip(line)
for family in "-4", "-6":
    for rule in json.loads(ip(family + " -json rule")):
        if 0 < rule["priority"] < 32766:
            ip(family + " rule del prio %d" % rule["priority"])
ip("-6 route del unreachable 2001:db8:3::/48")
ip("addr add 10.0.0.5/24 brd + dev v0")  # what the backend gives again
said = [text for told in kept.finish().values() for text in told]
await_addresses()
print(json.dumps([before, picture(), said]))
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs a network namespace of its own")
def test_what_was_taken_away_is_made_again_as_it_was(tmp_path):
    import json

    script = SCRIPT.format(top=TOP, run=str(tmp_path), given=GIVEN)
    argv = ["unshare", "--net", sys.executable, "-c", script]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()
    before, after, said = json.loads(done.stdout.decode())
    # An address that was proved unique is not proved again.
    assert [line.replace(" nodad", "") for line in after] == [line.replace(" nodad", "") for line in before]
    assert [text for text in said if not text.startswith("restored: ")] == []
    # The NIC's own address came back by itself, and an IPv6 route needs no address.
    assert len(said) >= len(GIVEN) - 2
    assert not (tmp_path / "theirs.json").exists()


# Over two NICs: what is left while one of them is down has the same id, or the same network.
SHARED = """
addr add 10.0.0.5/24 dev v0
addr add 10.1.0.5/24 dev w0
-6 addr add 2001:db8::5/64 dev v0 nodad
-6 addr add 2001:db8:1::5/64 dev w0 nodad
nexthop add id 101 via 10.0.0.9 dev v0 proto 11
nexthop add id 102 via 10.1.0.9 dev w0 proto 11
nexthop add id 100 group 101,3/102 proto 11
route add 192.0.2.0/24 nhid 100 proto 11
route add 198.51.100.0/24 nexthop via 10.0.0.9 dev v0 weight 3 nexthop via 10.1.0.9 dev w0
-6 route add 2001:db8:2::/48 nexthop via 2001:db8::9 dev v0 nexthop via 2001:db8:1::9 dev w0
-6 nexthop add id 203 via 2001:db8::9 dev v0
-6 nexthop add id 204 via 2001:db8:1::9 dev w0
nexthop add id 200 group 203/204
-6 route add 2001:db8:3::/48 nhid 200
neigh add 10.0.0.77 lladdr 02:00:00:00:00:77 dev v0 nud permanent
neigh add proxy 10.0.0.78 dev v0
-6 neigh add 2001:db8::77 lladdr 02:00:00:00:00:78 dev v0 nud permanent
""".strip().splitlines()

SHARED_SCRIPT = HEAD + """def picture():
    shown = ("nexthop", "route show table all", "-6 route show table all", "neigh show nud permanent", "neigh show proxy")
    lines = [line for one in shown for line in ip(one).splitlines()]
    words = [" ".join(line.replace("\\\\", "").split()) for line in lines]
    return sorted(line for line in words if "fe80" not in line and "multicast" not in line and "anycast" not in line)

ip("link set lo up")
for name in "v", "w":
    for line in ["link add %s0 type veth peer name %s1", "link set %s1 up", "link set %s0 up"]:
        ip(line % ((name,) * line.count("%s")))
await_carrier("v0", "w0")
for line in {given!r}:
    ip(line)
await_addresses()
before = picture()
own = {{"v0": foreign.Ours(frozenset(["10.0.0.5/24", "2001:db8::5/64"]))}}
saved = foreign.save([Touch("reconfigure", "", "v0", "")], own, {everywhere})
ip("addr flush dev v0")
ip("link set v0 down")
if {interrupted}:
    saved = foreign.save([Touch("reconfigure", "", "v0", "")], own, {everywhere})
lost = picture() != before
ip("link set v0 up")
await_carrier("v0")
for line in {given!r}:
    if line.endswith("dev v0") and "addr add" in line or "dev v0 nodad" in line:
        ip(line)
said = [text for told in saved.finish().values() for text in told]
await_addresses()
print(json.dumps([lost, before, picture(), said]))
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs a network namespace of its own")
@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("everywhere", [False, True])
def test_what_is_shared_with_a_nic_that_stays_up_is_made_whole_again(tmp_path, interrupted, everywhere):
    import json

    script = SHARED_SCRIPT.format(
        top=TOP, run=str(tmp_path), given=SHARED, interrupted=interrupted, everywhere=everywhere
    )
    argv = ["unshare", "--net", sys.executable, "-c", script]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()
    lost, before, after, said = json.loads(done.stdout.decode())
    assert lost
    assert after == before
    assert [text for text in said if not text.startswith("restored: ")] == []
