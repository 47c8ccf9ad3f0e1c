# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The cloudinit-osnetd developers
"""The plot of docs/performance.md: each contender's time, guest by guest, on one logarithmic scale."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Sequence

from bench.report import _WHAT, Result

_COLOURS = {"floor": "#9aa0a6", "osnetd": "#1a73e8", "cloud-init": "#e8710a"}


def draw(results: Sequence[Result], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    timed = [result for result in results if result.scene != "nothing"]
    guests = list(dict.fromkeys(result.guest for result in timed))
    contenders = list(dict.fromkeys(result.contender for result in timed))
    scenes = list(dict.fromkeys(result.scene for result in timed))
    figure, axes = pyplot.subplots(1, len(guests), figsize=(5 * len(guests), 3.2), sharey=True, squeeze=False)
    for axis, guest in zip(axes[0], guests):
        for number, contender in enumerate(contenders):
            for row, scene in enumerate(scenes):
                found = [r for r in timed if (r.guest, r.scene, r.contender) == (guest, scene, contender)]
                place = row + (number - (len(contenders) - 1) / 2) * 0.26
                if found and found[0].times:
                    times = found[0].times
                    axis.barh(place, statistics.median(times), height=0.24, color=_COLOURS.get(contender), label=contender)
                    axis.plot([min(times), max(times)], [place, place], color="black", linewidth=1)
                    axis.text(max(times) * 1.1, place, f"{statistics.median(times):.3f}", va="center", fontsize=7)
                elif found:
                    axis.text(0.011, place, f"{contender}: never", va="center", fontsize=7, color=_COLOURS.get(contender))
        axis.set_xscale("log")
        axis.set_xlim(0.01, 60)
        axis.set_title(guest)
        axis.set_xlabel("seconds from the kernel's event, median (line: least to most)")
        axis.set_yticks(range(len(scenes)), [_WHAT.get(scene, scene) for scene in scenes])
    axes[0][0].invert_yaxis()  # they share it
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=_COLOURS.get(contender)) for contender in contenders]
    figure.legend(handles, contenders, loc="lower center", ncols=len(contenders), frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, metadata={"Date": None})
