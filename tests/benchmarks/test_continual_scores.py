import numpy as np
import pandas as pd
import pytest

from benchmarks.continual.report import replaced
from benchmarks.continual.runs import chance_auc
from benchmarks.continual.scores import Result, ResultFile, auc_of, regret, span_scores


@pytest.fixture
def make_result():
    def make(policy="warm", seed=0, log_loss=0.5):
        scores = {"auc": 0.7, "log_loss": log_loss, "auc_by_span": (0.7,), "log_loss_by_span": (log_loss,)}
        return Result(stream="flights", policy=policy, seed=seed, settings="s", train_seconds=1.0, spans=(8,), **scores)

    return make


def test_a_result_file_goes_on_after_a_line_that_was_cut_short(tmp_path, make_result):
    path = tmp_path / "work" / "results.jsonl"
    file = ResultFile(path)
    file.append(make_result("warm"))
    path.write_text(path.read_text() + make_result("replay").model_dump_json()[:40])
    file.append(make_result("replay"))
    assert [result.policy for result in file.read().values()] == ["warm", "replay"]


def test_an_absent_result_file_has_no_results(tmp_path):
    assert ResultFile(tmp_path / "results.jsonl").read() == {}


def test_regret_is_the_loss_beyond_the_best_policy_over_seeds(make_result):
    results = [make_result("a", 0, 0.4), make_result("a", 1, 0.6), make_result("b", 0, 0.7)]
    assert regret(results) == pytest.approx({"a": 0.0, "b": 0.2})


def test_pooled_scores_are_over_all_examples_not_over_spans():
    labels = [np.array([0, 1]), np.array([0, 0, 0, 1])]
    predictions = [np.array([0.8, 0.9]), np.array([0.1, 0.1, 0.1, 0.2])]
    scores = span_scores(labels, predictions)
    assert scores["auc_by_span"] == (1.0, 1.0)
    assert scores["auc"] == pytest.approx(7 / 8)
    assert scores["log_loss"] == pytest.approx(np.average(scores["log_loss_by_span"], weights=[2, 4]))


def test_a_report_without_the_place_of_a_table_is_refused():
    with pytest.raises(ValueError, match="no place for 'flights'"):
        replaced("# Report", "flights", "| table |")


def test_predictions_that_know_nothing_stay_below_the_chance_auc():
    random = np.random.default_rng(0)
    labels = pd.Series((np.arange(300) % 3 == 0).astype(float))
    aucs = [auc_of(labels.to_numpy(), random.random(300)) for _ in range(200)]
    assert max(aucs) < chance_auc(labels) < 0.62
    assert chance_auc(pd.Series([1.0, 1.0])) == 0
