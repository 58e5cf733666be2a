"""Backward transfer on examples whose older spans one model ranks worse than the other."""

import numpy as np
import pytest

from monitoring.forgetting import measure_backward_transfer
from monitoring.metrics import metrics_of
from monitoring.scored_examples import ScoredExamples
from schemas.gate import GateOptions

BOUNDS = ({"metric": "auc", "minimum": 0.5},)
SPANS = np.repeat([2, 5, 9], [300, 300, 49])


@pytest.fixture
def forgetful():
    """Return examples on which the candidate has forgotten span 2, and knows the others as the champion does."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, len(SPANS))
    champion = labels + rng.normal(size=len(SPANS))
    candidate = np.where(SPANS == 2, rng.normal(size=len(SPANS)), champion)
    return ScoredExamples("binary", labels, candidate[:, None], champion[:, None])


def options(**kwargs):
    return GateOptions(bounds=BOUNDS, **kwargs)


def test_the_sample_and_each_span_have_both_values(forgetful):
    transfer = measure_backward_transfer(forgetful, SPANS, options=options())
    values = [
        metrics_of("binary", forgetful.labels, scores)["auc"] for scores in (forgetful.candidate, forgetful.champion)
    ]
    assert [transfer.candidate, transfer.champion] == values
    assert transfer.difference.value == pytest.approx(values[0] - values[1], abs=1e-12)
    assert list(transfer.by_span) == [2, 5]
    assert transfer.by_span[2][0] < 0.6 < transfer.by_span[2][1]
    assert transfer.by_span[5][0] == transfer.by_span[5][1]
    assert transfer.passed
    assert transfer.sentence.startswith("On 649 examples of 3 older spans, auc is 0.")
    assert transfer.sentence.endswith("would be detected); nothing required.")


@pytest.mark.parametrize(("max_forgetting", "passed"), [(0.02, False), (0.4, True)])
def test_forgetting_is_held_against_its_margin(forgetful, max_forgetting, passed):
    transfer = measure_backward_transfer(forgetful, SPANS, options=options(max_forgetting=max_forgetting))
    assert transfer.passed is passed
    assert transfer.sentence.endswith(
        f"; required: not worse than the champion by more than {max_forgetting:g} (90 % interval): "
        f"{'passed' if passed else 'failed'}."
    )


def test_too_few_examples_decide_nothing(forgetful):
    rows = SPANS == 9
    transfer = measure_backward_transfer(forgetful.take(rows), SPANS[rows], options=options(max_forgetting=0.01))
    assert (transfer.passed, transfer.difference, transfer.by_span) == (True, None, {})
    assert transfer.sentence.startswith("On 49 examples of 1 older span, auc is ")
    assert transfer.sentence.endswith("too few examples (49 of 200 needed) to tell: decides nothing.")


def test_a_lower_error_is_not_forgetting():
    rng = np.random.default_rng(1)
    labels = rng.normal(size=(400, 1))
    examples = ScoredExamples("regression", labels[:, 0], labels + 0.1 * rng.normal(size=(400, 1)), labels + 1)
    transfer = measure_backward_transfer(examples, np.zeros(400), options=options(max_forgetting=0.01))
    assert (transfer.metric, transfer.passed) == ("mean_squared_error", True)
    assert transfer.difference.high < 0
