"""The component on real artifacts: TFMA's evaluation of two small models, their SavedModels, and a replay buffer."""

import json
from pathlib import Path

import pytest
from tfx.components.util import model_utils
from tfx.types import artifact_utils, standard_artifacts

from components.gate import Gate
from ingest.replay_buffer import write_reservoir
from ingest.reservoir import Reservoir, priorities_of
from pipeline.evaluation import evaluation_config
from schemas.artifacts import GateVerdict, PrequentialScore, ReplayBuffer
from schemas.features import LabelSpec
from schemas.gate import GATE_REPORT_FILE, GateOptions, GateReport
from schemas.provenance import EVALUATION_METRICS, EXAMPLES_SPANS, encode_spans
from schemas.scores import PREQUENTIAL_FILE
from schemas.scores import PrequentialScore as Score
from schemas.spans import SpanRef

LABEL = LabelSpec(name="late")
# In TFMA's words those of tests/monitoring/test_gate.py, so that the fixture evaluates once for both.
BOUNDS = (
    {"metric": "auc", "minimum": 0.6, "policy": "superior"},
    {"metric": "binary_crossentropy", "maximum": 1.0},
    {"metric": "auc", "minimum": 0.1, "slices": ["carrier"], "policy": "non_inferior", "margin": 0.01},
)
# TFMA converts arrays of one element to numbers.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning:tensorflow_model")


@pytest.fixture
def artifact(make_artifact):
    """Return a function that makes an artifact of what is already on disk."""

    def artifact(kind, uri):
        made = make_artifact(kind, str(uri).replace("/", "_"))
        made.uri = str(uri)
        return made

    return artifact


@pytest.fixture
def replay(evaluations, make_artifact):
    """Return a buffer of all examples twice: as those of span 3, and as those of span 7, the one that is judged."""
    buffer, records = make_artifact(ReplayBuffer, "buffer"), evaluations.records()
    reservoir = Reservoir()
    for span in (3, 7):
        ref = SpanRef(span=span, version=1, digest="ab")
        labels = [str(label) for label in evaluations.labels]
        lots = priorities_of(0, "eval", span, len(records))
        reservoir = reservoir.offer(ref, records, labels, priorities=lots)
    write_reservoir(reservoir.keep(1000, "time"), Path(buffer.uri), "eval")
    return buffer


@pytest.fixture
def judge(evaluations, artifact, make_artifact):
    """Return a function that runs the gate and returns its report artifact, the report and the blessing."""

    def judge(candidate, champion, *, history=(), is_warm=1, **inputs):
        options = GateOptions(slices=(("carrier",),), bounds=BOUNDS, **inputs.pop("options", {}))
        config = evaluation_config(LABEL, options)
        examples = artifact(standard_artifacts.Examples, evaluations.examples)
        examples.split_names = artifact_utils.encode_split_names(["train", "eval"])
        own = [SpanRef(span=7, version=1, digest="ab")]
        examples.set_string_custom_property(EXAMPLES_SPANS, encode_spans(own))
        blessing = make_artifact(standard_artifacts.ModelBlessing, "blessing")
        verdict = make_artifact(GateVerdict, "report")
        if champion is not None:
            inputs["champion"] = artifact(standard_artifacts.Model, evaluations.model(champion))
        Gate.test_call(
            evaluation=artifact(standard_artifacts.ModelEvaluation, evaluations.evaluate(config, candidate)),
            model=artifact(standard_artifacts.Model, evaluations.model(candidate)),
            examples=examples,
            blessing=blessing,
            report=verdict,
            options=options.model_dump_json(),
            label=LABEL.model_dump_json(),
            prequential_history=json.dumps([score.model_dump() for score in history]),
            is_warm=is_warm,
            **inputs,
        )
        text = (Path(verdict.uri) / GATE_REPORT_FILE).read_text(encoding="utf-8")
        return verdict, GateReport.model_validate_json(text), blessing

    return judge


def test_a_better_candidate_is_blessed_as_tfx_does_it(evaluations, judge, replay):
    verdict, report, blessing = judge("good", "poor", replay=replay)
    assert report.is_blessed
    assert model_utils.is_model_blessed(blessing)
    assert [path.name for path in Path(blessing.uri).iterdir()] == ["BLESSED"]
    assert blessing.get_string_custom_property("current_model") == str(evaluations.model("good"))
    assert blessing.get_string_custom_property("baseline_model") == str(evaluations.model("poor"))
    assert json.loads(verdict.get_string_custom_property(EVALUATION_METRICS)) == report.candidate


def test_every_slice_is_compared_on_its_own_examples(judge):
    _, report, _ = judge("good", "poor")
    differences = {row.slice: row.difference for row in report.rows if row.metric == "auc"}
    assert {name: found and found.num_examples for name, found in differences.items()} == {
        "overall": 440, "carrier=AA": 200, "carrier=UA": 200, "carrier=ZZ": None,
    }  # fmt: skip
    (overall,) = (row for row in report.rows if (row.slice, row.metric) == ("overall", "auc"))
    # TFMA's AUC is an approximation by 10,000 thresholds.
    assert overall.difference.value == pytest.approx(overall.candidate - overall.champion, abs=1e-4)


def test_forgetting_is_measured_on_the_other_spans(judge, replay):
    _, report, _ = judge("good", "poor", replay=replay)
    transfer = report.backward_transfer
    assert list(transfer.by_span) == [3]
    assert transfer.difference.num_examples == 440
    assert transfer.by_span[3] == (transfer.candidate, transfer.champion)
    (overall,) = (row for row in report.rows if (row.slice, row.metric) == ("overall", "auc"))
    assert transfer.difference.value == pytest.approx(overall.difference.value, abs=1e-6)


def test_a_worse_candidate_is_not_blessed(judge, replay):
    _, report, blessing = judge("poor", "good", replay=replay, options={"max_forgetting": 0.01})
    assert not model_utils.is_model_blessed(blessing)
    assert [path.name for path in Path(blessing.uri).iterdir()] == ["NOT_BLESSED"]
    assert [reason.partition(" is ")[0] for reason in report.reasons] == [
        "auc (overall)", "auc (carrier=AA)", "auc (carrier=UA)", "On 440 examples of 1 older span, auc",
    ]  # fmt: skip


def test_without_a_champion_nothing_is_compared(judge, replay):
    _, report, blessing = judge("good", None, replay=replay)
    assert model_utils.is_model_blessed(blessing)
    assert not blessing.has_custom_property("baseline_model")
    assert (report.champion, report.backward_transfer, report.prequential) == ({}, None, None)


def test_decay_counts_the_score_on_this_span(judge, make_artifact):
    history = [Score(span=span, num_examples=9, metrics={"auc": value}) for span, value in ((5, 0.8), (6, 0.5))]
    score = make_artifact(PrequentialScore, "prequential")
    newest = Score(span=7, num_examples=9, metrics={"auc": 0.4})
    (Path(score.uri) / PREQUENTIAL_FILE).write_text(newest.model_dump_json())
    options = {"prequential": {"on_decay": "block", "window_spans": 1}}
    _, report, _ = judge("good", "poor", history=history, prequential=score, options=options)
    assert (report.prequential.latest, report.prequential.has_decayed, report.is_blessed) == (0.4, True, False)
