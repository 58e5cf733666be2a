"""The study's two plots, as SVG: text that a diff can show, and sharp at any size."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.continual.scores import Result

# Wong, "Points of view: Color blindness", Nature Methods 2011; the dashes tell lines apart without colour.
_STYLES: dict[str, dict[str, Any]] = {
    "frozen": {"color": "#8C8C8C", "linestyle": ":"},
    "cold_last": {"color": "#E69F00", "linestyle": "--"},
    "cold_all": {"color": "#D55E00", "linestyle": "-."},
    "naive_warm": {"color": "#CC79A7", "linestyle": "--"},
    "warm": {"color": "#0072B2", "linestyle": "-"},
    "replay": {"color": "#009E73", "linestyle": "-"},
    "best": {"color": "#000000", "linestyle": "-"},
    "river_logistic": {"color": "#56B4E9", "linestyle": ":"},
}
_SMOOTH_SPANS = 4  # single weeks jump by more than policies differ
mpl.rcParams["svg.hashsalt"] = "continual"  # the same results give the same file
mpl.rcParams["svg.fonttype"] = "none"


def plot_flights(results: Sequence[Result], path: Path) -> None:
    """Draw log loss by week, a moving mean, and how regret against plain warm adds up."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    plain = _mean(results, "warm", "log_loss_by_span")
    for name, style in _drawn(results):
        losses = _mean(results, name, "log_loss_by_span")
        weeks = np.asarray(next(result.spans for result in results if result.policy == name))
        smooth = np.convolve(losses, np.ones(_SMOOTH_SPANS) / _SMOOTH_SPANS, "valid")
        top.plot(weeks[_SMOOTH_SPANS - 1 :], smooth, label=name, **style)
        bottom.plot(weeks, np.cumsum(losses - plain), label=name, **style)
    top.set_ylabel(f"log loss, mean of {_SMOOTH_SPANS} weeks")
    top.set_ylim(0.38, 0.72)
    bottom.set_ylabel("log loss beyond warm's, summed")
    bottom.set_ylim(-1.5, 4)
    bottom.set_xlabel("week of 2013, each scored before it is learned")
    top.legend(ncols=4, fontsize="small", frameon=False)
    figure.savefig(path, metadata={"Date": None})


def plot_synthetic(results: Mapping[str, Sequence[Result]], path: Path) -> None:
    """Draw AUC on the newest span and on the first concept, one column a stream."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.subplots(2, len(results), sharex=True, sharey=True, squeeze=False)
    for column, (stream, some) in enumerate(results.items()):
        for name, style in _drawn(some):
            spans = next(result.spans for result in some if result.policy == name)
            axes[0, column].plot(spans, _mean(some, name, "auc_by_span"), label=name, **style)
            axes[1, column].plot(spans, _mean(some, name, "old_auc_by_span"), label=name, **style)
        axes[0, column].set_title(stream)
        axes[1, column].set_xlabel("span")
    axes[0, 0].set_ylabel("AUC, span before it is learned")
    axes[1, 0].set_ylabel("AUC on the first concept")
    axes[0, 0].legend(fontsize="small", frameon=False)
    figure.savefig(path, metadata={"Date": None})


def _drawn(results: Iterable[Result]) -> list[tuple[str, dict[str, Any]]]:
    there = {result.policy for result in results}
    return [(name, style) for name, style in _STYLES.items() if name in there]


def _mean(results: Iterable[Result], policy: str, series: str) -> NDArray[Any]:
    values: NDArray[Any] = np.mean([getattr(result, series) for result in results if result.policy == policy], axis=0)
    return values
