"""What `perennial lineage` prints, over a real store and a real ledger."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.lineage import lineage
from core.errors import ConfigError, LineageError
from ledger.ledger import Ledger
from lineage.garbage import mark_deleted
from lineage.store import opened_store
from schemas import provenance
from schemas.ledger_records import ModelRecord

CONFIG = Path(__file__).parents[2] / "conf" / "flights.yaml"

Invoke = Callable[..., str]


@pytest.fixture
def root(make_history: Callable[[], Any], make_ref: Callable[..., Any], tmp_path: Path) -> Path:
    """A pipeline's folder: cold start on spans 1 and 2, pushed; a warm start on span 3, pushed and champion."""
    history = make_history()
    cold = history.train(history.examples(make_ref(1), make_ref(2)))
    history.judge(cold, version=1)
    warm = history.train(history.examples(make_ref(3)), base=cold)
    history.judge(warm, version=2, champion=cold)
    Path(history.url.removeprefix("sqlite:///")).rename(tmp_path / "metadata.sqlite")
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite", "flights") as ledger:
        versions = [ledger.reserve_version(), ledger.reserve_version()]
        model = ModelRecord(
            version=versions[-1],
            run_id="run",
            span=3,
            span_version=1,
            model_uri=warm.uri,
            model_digest=warm.custom_properties[provenance.MODEL_DIGEST].string_value,
            training_digest="b" * 64,
            transform_graph_uri="/transform",
            transform_span=2,
            statistics_uri="/statistics",
            model_shape="c" * 64,
            base_version=1,
            pushed_at=datetime(2013, 3, 1, tzinfo=UTC),
        )
        ledger.record_model(model)
        ledger.promote(None, model.version)
    return tmp_path


def invoke(root: Path, *words: str) -> str:
    result = CliRunner().invoke(
        lineage, [*words, "--config", str(CONFIG), "--set", f"root={root}"], catch_exceptions=False
    )
    assert result.exit_code == 0
    return result.output


def test_the_champion_is_the_ledgers(root: Path) -> None:
    champion = json.loads(invoke(root, "model", "champion", "--json"))
    assert champion == json.loads(invoke(root, "model", "2", "--json"))
    assert champion["version"] == 2
    assert [(ref["span"], ref["direct"]) for ref in champion["spans"]] == [(1, False), (2, False), (3, True)]
    assert [base["version"] for base in champion["base_models"]] == [1]


def test_the_json_document_has_the_promised_keys(root: Path) -> None:
    document = json.loads(invoke(root, "model", "1", "--json"))
    for source in ("transform_graph", "schema", "config", "code"):
        assert len(document[source]["digest"]) == 64
    assert document["transform_graph"]["uri"] is not None
    assert document["config"]["uri"] is None
    assert document["hyperparameters"] == {"batch_size": 256}
    assert document["evaluation"]["blessed"] is True


def test_a_person_reads_one_line_for_each_origin(root: Path) -> None:
    lines = dict(line.split("  ", 1) for line in invoke(root, "model", "champion").splitlines() if line[0] != " ")
    assert lines["model"].strip().startswith("version 2")
    assert lines["trained on"].strip() == "span 3 v1 000000000000"
    assert "span 1 v1" in lines["inherited"]
    assert lines["base models"].strip().startswith("version 1 (span 2)")
    assert lines["config"].strip() == "3" * 12


def test_a_span_names_its_models(root: Path) -> None:
    document = json.loads(invoke(root, "span", "1", "--json"))
    assert document["span"] == 1
    assert [(model["version"], model["direct"]) for model in document["models"]] == [(1, True), (2, False)]
    first, second = invoke(root, "span", "1").splitlines()
    assert first.startswith("version 1    learned from span 1 v1 directly ")
    assert second.startswith("version 2    learned from span 1 v1 through a warm start ")
    assert second.endswith(document["models"][1]["uri"])
    assert invoke(root, "span", "9") == "No model learned from span 9.\n"


def test_what_was_removed_still_answers_and_says_so(root: Path) -> None:
    with opened_store(f"sqlite:///{root}/metadata.sqlite", writable=True) as store:
        mark_deleted(store, frozenset({json.loads(invoke(root, "model", "1", "--json"))["uri"]}))
    cold, champion = invoke(root, "model", "1"), invoke(root, "model", "champion")
    assert cold.splitlines()[0].rstrip().endswith("(files removed)")
    assert not champion.splitlines()[0].rstrip().endswith("(files removed)")
    assert any(line.startswith("base models") and "(files removed)" in line for line in champion.splitlines())
    first, second = invoke(root, "span", "1").splitlines()
    assert (first.endswith("(files removed)"), second.endswith("(files removed)")) == (True, False)


def test_wrong_questions_get_sentences(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Model 'latest' is no version. Expected a number or 'champion'"):
        invoke(root, "model", "latest")
    with pytest.raises(LineageError, match=r"no pushed model version 7\. Expected one of: 1, 2;"):
        invoke(root, "model", "7")
    with pytest.raises(LineageError, match="Pipeline 'flights' has no champion yet"):
        invoke(tmp_path / "fresh", "model", "champion")
    with pytest.raises(LineageError, match="There is no ML Metadata store at"):
        invoke(tmp_path / "fresh", "span", "1")
    assert not (tmp_path / "fresh").exists()
