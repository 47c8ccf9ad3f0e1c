# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""`status`: shows each NIC, its state and the reason, and the fallback level that served this boot."""

import argparse

from ..run import status
from .output import print_json, print_table


def main(args: argparse.Namespace) -> int:
    report = status.read()
    failed = any(row["state"] == "failed" for row in report["nics"])
    if args.json:
        print_json(report)
        return 1 if failed else 0
    print("instance    %s (%s)" % (report["instance_id"] or "-", report["datasource"] or "-"))
    print("this boot   network config from fallback level: %s" % report["boot"].get("level"))
    if report["hands_off"]:
        print("not managed %s" % report["hands_off"])
    if not report["backend"]:
        return 0
    print("backend     %s" % report["backend"])
    print("metadata    %s\n" % (("via " + report["metadata_via"]) if report["metadata_via"] else "no answer yet"))
    rows = []
    for r in report["nics"]:
        why = "; ".join(([r["reason"]] if r["reason"] else []) + list(r["findings"]))
        rows.append([r["name"], r["mac"], r["state"], r["source"], ", ".join(r["addresses"]), r["mtu"], why])
    for fault in report.get("faults", []):
        print("fault: " + fault)
    print_table(["NIC", "MAC", "STATE", "SOURCE", "ADDRESSES", "MTU", "REASON"], rows)
    for r in report["nics"]:
        for line in r["differs"]:
            print("%s: %s" % (r["name"], line))
    return 1 if failed else 0
