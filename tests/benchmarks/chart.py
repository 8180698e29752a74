"""The chart of the README: how long a change holds the caller up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .contenders import Module, ModuleInBackground, RedisPy, Sdk, SdkAsOriginal
from .held_up import Held
from .stub import HANGING, NETWORKS, REFUSING

_SHOWN = {
    ModuleInBackground.name: ("upstash_state, background mode", "#0b7a75"),
    Module.name: ("upstash_state", "#5ec2b7"),
    Sdk.name: ("upstash-redis, SET with expiry", "#e0a458"),
    SdkAsOriginal.name: ("upstash-redis, SET then EXPIRE", "#c8743c"),
    RedisPy.name: ("redis-py over TCP, SET then EXPIRE", "#8a8f98"),
}
_TITLES = {HANGING: "no answer", REFUSING: "refused"}
#: The seconds at which an endless bar ends.
_TOP = 60.0


def draw(held: Mapping[str, Mapping[str, Held]], path: Path) -> None:
    """Draw the chart.

    Args:
        held: The figures for one order, by network and contender.
        path: An SVG file.
    """
    import matplotlib

    matplotlib.use("svg")
    # The same figures must give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "", "font.size": 9, "svg.fonttype": "none"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8.4, 3.6), layout="constrained")
    width = 0.8 / len(_SHOWN)
    for place, (name, (label, colour)) in enumerate(_SHOWN.items()):
        for column, network in enumerate(NETWORKS):
            found = held[network][name]
            at = column + (place - (len(_SHOWN) - 1) / 2) * width
            height = _TOP if found.endless else found.median
            axes.bar(at, height, width * 0.92, color=colour, label=label if not column else None)
            if found.endless:
                axes.text(at, _TOP * 0.8, "∞", ha="center", va="top", color="white")
            elif found.p99 > found.median * 1.15:
                axes.plot([at, at], [found.median, found.p99], color=colour, linewidth=1)
                axes.plot(at, found.p99, marker="_", color=colour, markersize=7)
    axes.set_yscale("log")
    axes.set_ylim(1e-5, _TOP)
    axes.set_yticks([1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10])
    axes.set_yticklabels(["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"])
    axes.minorticks_off()
    axes.set_xticks(range(len(NETWORKS)))
    axes.set_xticklabels([_TITLES.get(network, f"{network} away") for network in NETWORKS])
    axes.tick_params(length=0)
    axes.grid(axis="y", color="#e4e4e4")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_title(
        "Held up per change of an order: median, and a line up to the 99th percentile",
        loc="left",
        fontsize=10,
    )
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
