"""River's online models on the same streams: every span is scored, then learned one example at a time."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from river import base, compose, linear_model, optim, preprocessing, tree

from benchmarks.continual.policies import LOGISTIC
from benchmarks.continual.scores import auc_of, span_scores
from benchmarks.continual.streams import Stream
from schemas.features import CyclicFeature, VocabularyFeature

MAX_TREE_CATEGORIES = 1000  # a tree looks at every one at every leaf: thousands of aircraft take most of its time
_Raw = list[dict[str, Any]]


def run_online(name: str, stream: Stream, *, seed: int, on_span: Callable[[], None]) -> dict[str, Any]:
    """Return train_seconds and scores under the names of `Result`.

    Args:
        name: One of `policies.ONLINE_POLICIES`.
        stream: What to learn.
        seed: Of the tree; the regression has no randomness.
        on_span: Called after every span.
    """
    model = _logistic() if name == LOGISTIC else _tree(seed)
    label = stream.feature_set.label.name
    first = stream.num_warm_up - stream.label_delay_spans
    seconds = sum(_learned(model, stream.spans[span], stream) for span in range(first))
    predictions, old = [], []
    for span in stream.scored:
        predictions.append(_predicted(model, stream.spans[span], stream))
        seconds += _learned(model, stream.spans[span - stream.label_delay_spans], stream)
        if stream.old is not None:
            old.append(auc_of(stream.old[label].to_numpy(), _predicted(model, stream.old, stream)))
        on_span()
    labels = [stream.spans[span][label].to_numpy() for span in stream.scored]
    return {
        "train_seconds": seconds,
        "spans": tuple(stream.scored),
        "old_auc_by_span": tuple(old),
        **span_scores(labels, predictions),
    }


def _logistic() -> base.Classifier:
    numbers = compose.SelectType(float) | preprocessing.StandardScaler()
    categories = compose.SelectType(str) | preprocessing.OneHotEncoder(drop_zeros=True)
    return (numbers + categories) | linear_model.LogisticRegression(optimizer=optim.SGD(0.002))


def _tree(seed: int) -> base.Classifier:
    # A leaf's naive Bayes is far too certain, so its shares of both labels; in two, or every airport would be a leaf.
    return tree.HoeffdingAdaptiveTreeClassifier(grace_period=200, leaf_prediction="mc", binary_split=True, seed=seed)


def _learned(model: base.Classifier, frame: pd.DataFrame, stream: Stream) -> float:
    labels = frame[stream.feature_set.label.name].astype(bool)
    examples = _raw(frame, stream, without_large=_is_tree(model))
    started = time.process_time()
    for features, label in zip(examples, labels, strict=True):
        model.learn_one(features, label)
    return time.process_time() - started


def _predicted(model: base.Classifier, frame: pd.DataFrame, stream: Stream) -> NDArray[Any]:
    probabilities = [
        model.predict_proba_one(features).get(True, 0.0)
        for features in _raw(frame, stream, without_large=_is_tree(model))
    ]
    return np.asarray(probabilities, np.float64)


def _raw(frame: pd.DataFrame, stream: Stream, *, without_large: bool) -> _Raw:
    """Return the features as River takes them: numbers, text for categories and circles, and nothing where missing."""
    features = stream.feature_set.features
    columns = {
        name: frame[name].map(str, na_action="ignore") if _is_category(spec) else frame[name].astype(float)
        for name, spec in features.items()
        if not (without_large and isinstance(spec, VocabularyFeature) and spec.capacity > MAX_TREE_CATEGORIES)
    }
    records = pd.DataFrame(columns).to_dict("records")
    return [{name: value for name, value in record.items() if value == value} for record in records]


def _is_tree(model: base.Classifier) -> bool:
    return isinstance(model, tree.HoeffdingAdaptiveTreeClassifier)


def _is_category(spec: Any) -> bool:
    return spec.kind in ("vocabulary", "hashed") or (isinstance(spec, CyclicFeature) and spec.period < 30)
