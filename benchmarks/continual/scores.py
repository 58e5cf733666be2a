"""What a policy scored on a stream: the record that is kept, its file, and the numbers made of it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from schemas.base import Record

_CERTAINTY = 1e-7  # a probability nearer to 0 or 1 than this counts as this, as in Keras


class Result(Record):
    """One policy on one stream with one seed.

    Attributes:
        stream: Name of the stream.
        policy: Name of the policy.
        seed: Seed of the weights, of the order of examples and of a synthetic stream.
        settings: Digest of all that the result depends on besides code; a result of other settings is not used.
        train_seconds: Seconds of training, warm-up included, without tracing.
        auc: Over the predictions for all scored spans, pooled.
        log_loss: The same.
        spans: The scored spans.
        auc_by_span: Each span by itself.
        log_loss_by_span: The same.
        old_auc_by_span: On examples of the first concept, after each span was learned; empty where unknown.
    """

    stream: str
    policy: str
    seed: int
    settings: str
    train_seconds: float
    auc: float
    log_loss: float
    spans: tuple[int, ...]
    auc_by_span: tuple[float, ...]
    log_loss_by_span: tuple[float, ...]
    old_auc_by_span: tuple[float, ...] = ()


class ResultFile:
    """Results as JSON lines, one appended as soon as it is there, so that a killed study goes on where it was.

    Args:
        path: The file; made with its folder when the first result comes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[tuple[str, str, int, str], Result]:
        """Return all results by stream, policy, seed and settings; a line cut short by a kill is none."""
        found = {}
        for line in self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else ():
            if line.endswith("}"):
                result = Result.model_validate_json(line)
                found[result.stream, result.policy, result.seed, result.settings] = result
        return found

    def clear(self) -> None:
        """Forget all results."""
        self._path.unlink(missing_ok=True)

    def append(self, result: Result) -> None:
        """Add a result, on a line of its own even after a line that was cut short."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+", encoding="utf-8") as file:
            is_cut_short = file.tell() > 0 and not self._path.read_text(encoding="utf-8").endswith("\n")
            file.write(("\n" if is_cut_short else "") + result.model_dump_json() + "\n")


def span_scores(labels: Iterable[NDArray[Any]], predictions: Iterable[NDArray[Any]]) -> dict[str, Any]:
    """Return pooled scores and scores by span, under the names of `Result`.

    Args:
        labels: Per span, 0 or 1, shape `(num_examples,)`.
        predictions: Per span, probabilities of the same shape.
    """
    pairs = list(zip(labels, predictions, strict=True))
    pooled = tuple(np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    return {
        "auc": auc_of(*pooled),
        "log_loss": log_loss_of(*pooled),
        "auc_by_span": tuple(auc_of(*pair) for pair in pairs),
        "log_loss_by_span": tuple(log_loss_of(*pair) for pair in pairs),
    }


def auc_of(labels: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Return the area under the ROC curve."""
    return float(roc_auc_score(labels, predictions))


def log_loss_of(labels: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Return the mean binary cross-entropy."""
    clipped = np.clip(predictions.astype(np.float64), _CERTAINTY, 1 - _CERTAINTY)
    return float(log_loss(labels, clipped, labels=[0, 1]))


def mean_over_seeds(results: Iterable[Result]) -> dict[str, dict[str, float]]:
    """Return policy -> {auc, log_loss, train_seconds}, in the order in which policies first come.

    Example:
        >>> one = Result(stream="s", policy="p", seed=0, settings="", train_seconds=1, auc=0.5, log_loss=0.7,
        ...              spans=(), auc_by_span=(), log_loss_by_span=())
        >>> mean_over_seeds([one, one.model_copy(update={"seed": 1, "auc": 0.7})])
        {'p': {'auc': 0.6, 'log_loss': 0.7, 'train_seconds': 1.0}}
    """
    by_policy: dict[str, list[Result]] = {}
    for result in results:
        by_policy.setdefault(result.policy, []).append(result)
    return {
        policy: {
            "auc": round(float(np.mean([result.auc for result in some])), 5),
            "log_loss": round(float(np.mean([result.log_loss for result in some])), 5),
            "train_seconds": round(float(np.mean([result.train_seconds for result in some])), 2),
        }
        for policy, some in by_policy.items()
    }


def regret(results: Iterable[Result]) -> Mapping[str, float]:
    """Return, by policy, how much more log loss it had than the best policy of the stream, pooled, mean over seeds."""
    means = {policy: scores["log_loss"] for policy, scores in mean_over_seeds(results).items()}
    best = min(means.values())
    return {policy: value - best for policy, value in means.items()}
