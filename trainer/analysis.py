"""The analysis that travels with a model: read from the transform graph, written, loaded, and held against another.

How a graph is built on it is in `transform/`; how weights follow it is elsewhere in this package.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from core.errors import TrainingError
from core.files import write_text_atomically
from schemas.analysis import (
    ANALYSIS_FILE,
    BUCKETS_ANALYSIS_SUFFIX,
    NUMERIC_ANALYSIS_SUFFIX,
    Analysis,
    BucketAnalysis,
    FeatureAnalysis,
    NumericAnalysis,
    VocabularyAnalysis,
)
from schemas.features import BucketizedFeature, FeatureSet, NumericFeature, VocabularyFeature

if TYPE_CHECKING:
    from trainer.transform_graph import TransformGraph

MAX_RENDERED_FEATURES = 10


def read_analysis(
    graph: "TransformGraph", *, base: Analysis | None, token_counts: Mapping[str, Mapping[str, int]]
) -> Analysis:
    """Return what a graph was analysed to, with the counts of its tokens brought up to date.

    Args:
        graph: The graph that a model is trained on.
        base: The base model's analysis; its counts are carried on. None for a cold start.
        token_counts: By vocabulary feature, how often each token stands in the train split.

    Returns:
        Empty for a user's own `preprocessing_fn`: nobody knows what that analyses.

    Raises:
        TrainingError: the graph was not built by our transform.
    """
    if graph.feature_set.preprocessing_fn is not None:
        return Analysis(features={})
    specs = graph.feature_set.features
    suffixes = {NumericFeature: NUMERIC_ANALYSIS_SUFFIX, BucketizedFeature: BUCKETS_ANALYSIS_SUFFIX}
    outputs = {name: name + suffixes[type(spec)] for name, spec in specs.items() if type(spec) in suffixes}
    constants = graph.constants(list(outputs.values()))
    features: dict[str, FeatureAnalysis] = {}
    for name, spec in specs.items():
        match spec:
            case NumericFeature():
                mean, scale, missing_value, low, high = constants[outputs[name]]
                features[name] = NumericAnalysis(
                    mean=mean, scale=scale, missing_value=missing_value, low=low, high=high
                )
            case BucketizedFeature():
                features[name] = BucketAnalysis(boundaries=constants[outputs[name]])
            case VocabularyFeature():
                counts = _total_counts(base.features.get(name) if base else None, token_counts.get(name, {}))
                features[name] = _vocabulary_analysis(graph.vocabulary(name), counts, spec.capacity)
    return Analysis(features=features)


def _total_counts(base: FeatureAnalysis | None, counts: Mapping[str, int]) -> Counter[str]:
    total = Counter(counts)
    if isinstance(base, VocabularyAnalysis):
        total.update(dict(zip(base.tokens, base.counts, strict=True)))
        total.update(base.candidates)
    return total


def _vocabulary_analysis(tokens: tuple[str, ...], counts: Counter[str], capacity: int) -> VocabularyAnalysis:
    others = [(token, counts[token]) for token in counts.keys() - set(tokens)]
    # Tokens of equal count in their own order, so that the same data gives the same file.
    candidates = sorted(others, key=lambda item: (-item[1], item[0]))[:capacity]
    return VocabularyAnalysis(
        tokens=tokens, counts=tuple(counts[token] for token in tokens), candidates=dict(candidates)
    )


def check_fits(base: Analysis, current: Analysis, feature_set: FeatureSet) -> None:
    """Check that the graph to train on is the base model's own, or was refreshed from it.

    On any other graph, warm-started weights would mean something else than what they were trained to. A feature that
    the base lacks is no misfit.

    Args:
        base: What the base model's graph was analysed to.
        current: What the graph to train on was analysed to.
        feature_set: Features of that graph; their capacities say whether a token may have been evicted.

    Raises:
        TrainingError: the graph does not fit.
    """
    misfits = {
        name: reason
        for name, item in base.features.items()
        if (reason := _misfit(item, current.features.get(name), _capacity(feature_set, name)))
    }
    if misfits:
        shown = "; ".join(f"{name!r}: {reason}" for name, reason in list(misfits.items())[:MAX_RENDERED_FEATURES])
        raise TrainingError(
            f"The transform graph does not fit the base model in {len(misfits)} features. Expected the base model's "
            f"own graph, or one refreshed from its analysis; received {shown}. "
            "Refresh the graph with this base model, or plan a cold start."
        )


def _capacity(feature_set: FeatureSet, name: str) -> int:
    spec = feature_set.features.get(name)
    return spec.capacity if isinstance(spec, VocabularyFeature) else 0


def _misfit(base: FeatureAnalysis, current: FeatureAnalysis | None, capacity: int) -> str | None:
    """Return why a graph analysed to `current` cannot come from `base`, or None if it can."""
    match base, current:
        case _, None:
            return "the feature is gone"
        case NumericAnalysis(), NumericAnalysis():
            for field in ("missing_value", "low", "high"):
                expected, received = getattr(base, field), getattr(current, field)
                if expected != received:
                    return f"{field} was {expected} and is {received}"
        case BucketAnalysis(), BucketAnalysis():
            if base.boundaries != current.boundaries:
                return "the bucket boundaries differ"
        case VocabularyAnalysis(), VocabularyAnalysis():
            return _vocabulary_misfit(base.tokens, current.tokens, capacity)
        case _:
            return f"the kind was {base.kind} and is {current.kind}"
    return None


def _vocabulary_misfit(base: tuple[str, ...], current: tuple[str, ...], capacity: int) -> str | None:
    present = set(current)
    kept = tuple(token for token in base if token in present)
    if current[: len(kept)] != kept:
        return "tokens of the vocabulary changed their order"
    if len(kept) < len(base) and len(current) < capacity:
        return f"{len(base) - len(kept)} tokens are gone from a vocabulary that has room for {capacity}"
    return None


def write_analysis(folder: Path, analysis: Analysis) -> None:
    """Write the analysis into a `Format-Training` folder."""
    write_text_atomically(folder / ANALYSIS_FILE, analysis.model_dump_json())


def load_analysis(folder: Path) -> Analysis:
    """Return the analysis in a `Format-Training` folder.

    Raises:
        TrainingError: there is none, or it cannot be read.
    """
    try:
        return Analysis.model_validate_json((folder / ANALYSIS_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise TrainingError(
            f"The base model in {folder} does not say what its transform graph was analysed to. Expected "
            f"{ANALYSIS_FILE} as the Trainer writes it; received {type(error).__name__}: {reason}. "
            "Restore the folder, or plan a cold start."
        ) from error
