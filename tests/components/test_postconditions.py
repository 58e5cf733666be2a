import json
from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from components.postconditions import declared_counts, require_all_examples, require_no_remains
from core.errors import DataError
from schemas.provenance import EXAMPLES_COUNTS


@pytest.fixture
def examples_of(make_artifact):
    def make(counts):
        examples = make_artifact(standard_artifacts.Examples, "examples")
        if counts is not None:
            examples.set_string_custom_property(EXAMPLES_COUNTS, json.dumps(counts))
        return examples

    return make


def test_counts_are_those_that_example_gen_wrote(examples_of):
    assert declared_counts(examples_of({"train": 4, "eval": 1})) == {"train": 4, "eval": 1}


@pytest.mark.parametrize("counts", [None, {"train": 4, "eval": 0}], ids=["nobody counted", "empty split"])
def test_split_that_is_empty_or_uncounted_is_refused(examples_of, counts):
    with pytest.raises(DataError, match=r"have an empty split\. Expected examples in every split; received num_exam"):
        declared_counts(examples_of(counts))


@pytest.mark.parametrize("received", [{"train": 4, "eval": 1}, {"eval": 1}], ids=["both splits", "the split it reads"])
def test_every_example_passes(examples_of, received):
    require_all_examples(examples_of({"train": 4, "eval": 1}), received, by="StatisticsGen (beam)")


@pytest.mark.parametrize(
    "received",
    [{"train": 3, "eval": 1}, {"train": 4, "eval": 0}, {"eval": 2}, {"test": 1}, {}],
    ids=["lost", "empty", "doubled", "unknown split", "nothing read"],
)
def test_lost_or_doubled_examples_are_refused(examples_of, received):
    with pytest.raises(DataError, match=r"StatisticsGen \(beam\) lost or doubled examples of .*Expected .*Run again"):
        require_all_examples(examples_of({"train": 4, "eval": 1}), received, by="StatisticsGen (beam)")


def test_output_that_is_finished_passes(make_artifact):
    evaluation = make_artifact(standard_artifacts.ModelEvaluation, "evaluation")
    Path(evaluation.uri, "metrics-00000-of-00001").touch()
    require_no_remains(evaluation, by="Evaluator (beam)")


@pytest.mark.parametrize("name", ["beam-temp-metrics-1f", "Split-eval/beam-temp-FeatureStats.pb-2a"])
def test_output_with_temporary_files_of_beam_is_refused(make_artifact, name):
    evaluation = make_artifact(standard_artifacts.ModelEvaluation, "evaluation")
    Path(evaluation.uri, name).mkdir(parents=True)
    with pytest.raises(DataError, match=r"Evaluator \(beam\) did not finish .*received 1, the first .beam-temp-.*Run"):
        require_no_remains(evaluation, by="Evaluator (beam)")
