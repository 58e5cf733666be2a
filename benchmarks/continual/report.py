"""Writes the study's numbers into `docs/continual.md`, between markers; the words around them are written by hand."""

import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.continual.plots import plot_flights, plot_synthetic
from benchmarks.continual.policies import NEURAL_POLICIES, ONLINE_POLICIES
from benchmarks.continual.scores import Result, mean_over_seeds, regret
from benchmarks.continual.streams import FLIGHTS, SYNTHETIC

REPORT_FILE, SYNTHETIC_FILE = "continual.md", "continual-synthetic.json"
# The aim for the best policy on flights.
MIN_AUC, MAX_LOG_LOSS, MAX_COMPUTE_RATIO = 0.725, 0.487, 0.05
PLAIN_WARM, COLD_ALL = "warm", "cold_all"
_TITLES = {policy.name: policy.title for policy in NEURAL_POLICIES} | ONLINE_POLICIES
_OURS = {policy.name for policy in NEURAL_POLICIES if policy.is_ours}


def write_report(results: Sequence[Result], folder: Path) -> None:
    """Renew the tables, the plots and the JSON file of the synthetic streams.

    Args:
        results: All results of the full study.
        folder: Folder of the docs; its `continual.md` has a pair of markers for every table.
    """
    by_stream = {name: [result for result in results if result.stream == name] for name in (FLIGHTS, *SYNTHETIC)}
    path = folder / REPORT_FILE
    text = path.read_text(encoding="utf-8")
    text = replaced(text, "host", _host(results))
    text = replaced(text, "flights", flights_table(by_stream[FLIGHTS]))
    text = replaced(text, "aim", aim_table(by_stream[FLIGHTS]))
    for name in SYNTHETIC:
        text = replaced(text, name, synthetic_table(by_stream[name]))
    path.write_text(text, encoding="utf-8")
    synthetic = {name: mean_over_seeds(by_stream[name]) for name in SYNTHETIC}
    (folder / SYNTHETIC_FILE).write_text(json.dumps(synthetic, indent=2) + "\n", encoding="utf-8")
    plot_flights(by_stream[FLIGHTS], folder / "continual-flights.svg")
    plot_synthetic({name: by_stream[name] for name in SYNTHETIC}, folder / "continual-synthetic.svg")


def replaced(text: str, name: str, block: str) -> str:
    """Return the text with another block between the markers of that name.

    Raises:
        ValueError: the text has no such markers.

    Example:
        >>> replaced("<!-- a -->old<!-- /a -->", "a", "new").splitlines()
        ['<!-- a -->', 'new', '<!-- /a -->']
    """
    pattern = re.compile(rf"(<!-- {name} -->).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"The report has no place for {name!r}. Expected '<!-- {name} -->' and '<!-- /{name} -->'.")
    return pattern.sub(lambda found: f"{found[1]}\n{block}\n{found[2]}", text)


def flights_table(results: Sequence[Result]) -> str:
    """Return the policies by log loss, best first, as a Markdown table."""
    means, regrets = mean_over_seeds(results), regret(results)
    full = means[COLD_ALL]["train_seconds"]
    rows = ["| policy | what it does | AUC | log loss | regret | seconds | compute |", "|---|---|---|---|---|---|---|"]
    for name in sorted(means, key=lambda policy: means[policy]["log_loss"]):
        seconds = means[name]["train_seconds"]
        rows.append(
            f"| {_name(name)} | {_TITLES[name]} | {_spread(results, name, 'auc')} | "
            f"{_spread(results, name, 'log_loss')} | {regrets[name]:.4f} | {seconds:.1f} | {seconds / full:.1%} |"
        )
    return "\n".join(rows)


def aim_table(results: Sequence[Result]) -> str:
    """Return aim, plain warm and the best of ours under the compute limit as a Markdown table."""
    means = mean_over_seeds(results)
    full = means[COLD_ALL]["train_seconds"]
    cheap = [name for name in means if name in _OURS and means[name]["train_seconds"] <= MAX_COMPUTE_RATIO * full]
    best = min(cheap or [PLAIN_WARM], key=lambda name: means[name]["log_loss"])
    rows = ["| | AUC | log loss | compute |", "|---|---|---|---|"]
    rows.append(f"| aim | at least {MIN_AUC} | at most {MAX_LOG_LOSS} | at most {MAX_COMPUTE_RATIO:.0%} |")
    for name in dict.fromkeys((PLAIN_WARM, best)):
        scores = means[name]
        rows.append(
            f"| `{name}` | {scores['auc']:.4f} | {scores['log_loss']:.4f} | {scores['train_seconds'] / full:.1%} |"
        )
    return "\n".join(rows)


def synthetic_table(results: Sequence[Result]) -> str:
    """Return the policies by log loss, against plain warm with every seed's own, as a Markdown table."""
    means = mean_over_seeds(results)
    rows = ["| policy | AUC | log loss | against `warm` | AUC on the first concept, end | seconds |"]
    rows.append("|---|---|---|---|---|---|")
    plain = {result.seed: result.log_loss for result in results if result.policy == PLAIN_WARM}
    for name in sorted(means, key=lambda policy: means[policy]["log_loss"]):
        some = [result for result in results if result.policy == name]
        differences = [result.log_loss - plain[result.seed] for result in some]
        rows.append(
            f"| {_name(name)} | {_spread(results, name, 'auc')} | {_spread(results, name, 'log_loss')} | "
            f"{_mean_and_range(differences)} | {np.mean([result.old_auc_by_span[-1] for result in some]):.3f} | "
            f"{means[name]['train_seconds']:.1f} |"
        )
    return "\n".join(rows)


def _name(policy: str) -> str:
    return f"**`{policy}`**" if policy in _OURS else f"`{policy}`"


def _spread(results: Iterable[Result], policy: str, metric: str) -> str:
    """Return mean and standard deviation over seeds."""
    values = [getattr(result, metric) for result in results if result.policy == policy]
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def _mean_and_range(values: Sequence[float]) -> str:
    return f"{np.mean(values):+.4f} ({min(values):+.4f} to {max(values):+.4f})"


def _host(results: Sequence[Result]) -> str:
    streams = (FLIGHTS, *SYNTHETIC)
    seeds = {name: len({result.seed for result in results if result.stream == name}) for name in streams}
    counts = ", ".join(f"{name} {count}" for name, count in seeds.items())
    return f"Seeds: {counts}. A machine of {os.cpu_count()} cores, Python {platform.python_version()}."
