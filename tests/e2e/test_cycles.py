import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.digests import digest_of_folder
from pipeline.config import Config
from pipeline.decision import read_decision
from pipeline.plan import RunPlan, Skip
from schemas.model_layout import SERVING_FOLDER, TRAINING_FOLDER
from schemas.spans import SPLITS
from serving.prediction import Predictor
from trainer.analysis import load_analysis
from trainer.model import build_model
from trainer.transform_graph import TransformGraph
from trainer.warm_start import carry_over, read_base_model

pytestmark = pytest.mark.e2e


def test_first_cycle_is_cold_and_the_next_ones_carry_weights_and_steps_on(cycles):
    cold, *warm = cycles("local").decisions
    assert [decision.plan.initialisation for decision in (cold, *warm)] == ["cold", "warm", "warm"]
    assert [[ref.span for ref in decision.plan.window] for decision in (cold, *warm)] == [[1, 2], [3], [4]]
    assert {"WindowExampleGen", "WindowStatisticsGen", "Transform"} <= cold.seconds.keys()
    assert not {"WindowExampleGen", "Transform"} & warm[0].seconds.keys()
    for before, after in zip((cold, *warm), warm, strict=False):
        assert after.plan.champion.version == before.push.version
        assert after.training["steps"] > before.training["steps"]
    assert [decision.training["line_length"] for decision in (cold, *warm)] == [0, 1, 2]
    assert cold.gate.champion == {}
    assert all("auc" in decision.gate.champion for decision in warm)


def test_refresh_grows_the_vocabulary_and_changes_no_prediction(cycles):
    made = cycles("local")
    frozen, refreshed = made.decisions[1:]
    assert [ref.span for ref in refreshed.plan.analysis_window] == [3, 4]
    assert {"AnalysisExampleGen", "WindowStatisticsGen", "Transform"} <= refreshed.seconds.keys()
    records = {record.version: record for record in made.pipeline.ledger.models()}
    base, grown = (Path(records[decision.push.version].model_uri) for decision in (frozen, refreshed))
    before, after = (load_analysis(model / TRAINING_FOLDER) for model in (base, grown))
    tokens = before.features["tailnum"].tokens
    assert after.features["tailnum"].tokens[: len(tokens)] == tokens
    assert len(after.features["tailnum"].tokens) > len(tokens)
    assert after.features["wind_gust"].mean != before.features["wind_gust"].mean
    # The start of the refreshed model, before its first step, on every example of old and new spans.
    config = made.pipeline.config
    graph = TransformGraph(Path(records[refreshed.push.version].transform_graph_uri), config.feature_set)
    model = build_model(config.feature_set, config.training)
    carry_over(model, read_base_model(base / TRAINING_FOLDER, None), after, config.feature_set, config.training)
    files = [made.pipeline.folder(span) / file.path for span in (1, 2, 3, 4) for split in SPLITS
             for file in made.pipeline.manifest(span).files[split]]  # fmt: skip
    records = list(tf.data.TFRecordDataset([str(file) for file in files], "GZIP").as_numpy_iterator())
    start = model.predict_on_batch(graph.features(tf.constant(records)))
    assert np.abs(start - Predictor(base / SERVING_FOLDER).predict_examples(records)).max() <= 1e-5


def test_past_examples_are_replayed_and_lineage_counts_them(cycles):
    made = cycles("local")
    lineage = made.champion_lineage()
    assert lineage.replay.ratio == 0.5
    assert lineage.replay.members.keys() == {"1-1", "2-1", "3-1"}
    assert sum(lineage.replay.members.values()) == 600
    assert made.decisions[-1].training["num_replay_examples"] > 0


def test_champion_is_scored_before_anything_trains_on_a_span(cycles):
    made = cycles("local")
    first, *later = made.decisions
    assert first.prequential is None
    for decision in later:
        manifest = made.pipeline.manifest(decision.plan.span.span)
        assert decision.prequential.num_examples == manifest.num_examples
        assert "Prequential" in decision.seconds
    assert later[-1].plan.prequential_history == (later[0].prequential,)
    assert later[-1].gate.prequential.latest == later[-1].prequential.metrics["auc"]
    kept = {record.span: record.prequential for record in made.pipeline.ledger.spans()}
    assert [kept[span] for span in (2, 3, 4)] == [None, *(decision.prequential.metrics for decision in later)]


def test_gate_measures_what_was_forgotten(cycles):
    forgetting = cycles("local").decisions[-1].gate.backward_transfer
    assert forgetting.by_span.keys() <= {1, 2, 3}
    assert forgetting.difference.low <= forgetting.difference.value <= forgetting.difference.high
    assert forgetting.difference.value == pytest.approx(forgetting.candidate - forgetting.champion)


def test_decision_record_has_all_that_the_cycle_rested_on(cycles):
    made = cycles("local")
    decision = made.decisions[-1]
    folder = made.pipeline.config.runs_path / decision.run_id
    assert read_decision(folder / "decision.json") == decision
    assert decision.plan.trigger == "manual"
    assert {finding.against for finding in decision.drift.findings} >= {"previous", "reference", "config"}
    assert {row.slice for row in decision.gate.rows} == {"overall", "origin=EWR", "origin=JFK", "origin=LGA"}
    assert Path(decision.push.destination).is_dir()
    assert decision.seconds.keys() >= {
        "ExampleGen",
        "StatisticsGen",
        "DriftGate",
        "Trainer",
        "Evaluator",
        "Gate",
        "total",
    }
    assert {name: len(digest) for name, digest in decision.digests.items()} == dict.fromkeys(
        ("code", "config", "schema", "data"), 64
    )
    assert 0 <= decision.first_model_auc <= 1


def test_run_can_be_repeated_from_what_it_left(cycles):
    made = cycles("local")
    decision = made.decisions[-1]
    (run,) = (run for run in made.pipeline.ledger.runs() if run.run_id == decision.run_id)
    assert RunPlan.model_validate_json(run.plan) == decision.plan
    config = made.pipeline.config.runs_path / decision.run_id / "config.json"
    assert Config.model_validate_json(config.read_text()) == made.pipeline.config


def test_champion_descends_from_every_span_it_learned_from(cycles):
    made = cycles("local")
    lineage = made.champion_lineage()
    known = [(ref.span, ref.version, ref.digest, ref.direct) for ref in lineage.spans]
    refs = [made.pipeline.manifest(span).ref for span in (1, 2, 3, 4)]
    # Spans 1 to 3 were replayed, so that it learned from each itself.
    assert known == [(ref.span, ref.version, ref.digest, True) for ref in refs]
    assert [(base.version, base.span) for base in lineage.base_models] == [(2, 3), (1, 2)]
    assert lineage.evaluation.blessed
    assert lineage.evaluation.metrics["auc"] == made.decisions[-1].gate.candidate["auc"]
    assert lineage.unknown == ()


def test_ledger_says_what_became_of_each_span(cycles):
    pipeline = cycles("local").pipeline
    records = {record.span: record for record in pipeline.ledger.spans()}
    assert [records[span].state for span in (1, 2, 3, 4)] == ["trained", "pushed", "pushed", "pushed"]
    assert [records[span].pushed_version for span in (2, 3, 4)] == [1, 2, 3]
    assert pipeline.ledger.champion().base_version == 2


def test_span_that_is_done_is_not_trained_again(cycles):
    made = cycles("local")
    num_runs = len(made.pipeline.ledger.runs())
    for span in (1, 2, 3, 4):
        result = made.pipeline.run(span)
        assert isinstance(result, Skip)
        assert f"Span {span} version 1 is already done" in result.reason
        assert made.pipeline.nodes == []
    assert len(made.pipeline.ledger.runs()) == num_runs


def test_pushed_model_is_the_one_that_was_trained_and_recorded(cycles):
    pipeline, lineage = cycles("local").pipeline, cycles("local").champion_lineage()
    champion = pipeline.ledger.champion()
    model = Path(champion.model_uri)
    assert digest_of_folder(model) == champion.model_digest
    assert digest_of_folder(model / TRAINING_FOLDER) == champion.training_digest
    assert lineage.digest == champion.model_digest
    assert lineage.transform_graph.digest == digest_of_folder(Path(champion.transform_graph_uri))
    assert lineage.config.digest == pipeline.config.digest
    served = pipeline.config.serving_path / str(champion.version)
    assert digest_of_folder(served) == digest_of_folder(model / SERVING_FOLDER)


@pytest.fixture
def ask(cycles, tmp_path):
    """Run a command on the pipeline as a user does; return its JSON and the packages that it loaded."""
    config = tmp_path / "config.yaml"
    config.write_text(cycles("local").pipeline.config.model_dump_json())
    program = """
import sys
from cli.main import perennial
perennial(standalone_mode=False)
print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""

    def ask(*arguments: str):
        command = [sys.executable, "-c", program, *arguments, "--json", "--config", str(config)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(result.stdout), set(result.stderr.split())

    return ask


def test_status_shows_the_cycles_without_tensorflow(cycles, ask):
    status, loaded = ask("status")
    assert status["champion"].items() >= {"version": 3, "span": 4, "previous": 2, "moved_by": "cycle"}.items()
    rows = {row["span"]: row for row in status["spans"]}
    assert [rows[span]["state"] for span in (1, 2, 3, 4)] == ["trained", "pushed", "pushed", "pushed"]
    gate = cycles("local").decisions[-1].gate
    assert (
        rows[4].items()
        >= {
            "version": 1,
            "examples": cycles("local").pipeline.manifest(4).num_examples,
            "candidate_auc": gate.candidate["auc"],
            "champion_auc": gate.champion["auc"],
            "pushed_version": 3,
        }.items()
    )
    assert not loaded & {"tensorflow", "tfx", "keras"}


def test_lineage_answers_both_questions_without_tensorflow(ask):
    model, loaded = ask("lineage", "model", "champion")
    assert [ref["span"] for ref in model["spans"]] == [1, 2, 3, 4]
    for ingredient in ("transform_graph", "schema", "config", "code"):
        assert len(model[ingredient]["digest"]) == 64
    assert Path(model["transform_graph"]["uri"]).is_dir()
    assert model["hyperparameters"]["batch_size"] == 128
    assert not loaded & {"tensorflow", "tfx", "keras"}
    span, _ = ask("lineage", "span", "2")
    assert [(learner["version"], learner["direct"]) for learner in span["models"] if learner["version"]] == [
        (1, True),
        (2, True),
        (3, True),
    ]
