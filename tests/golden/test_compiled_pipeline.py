import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from pipeline.config import load_config
from pipeline.graph import build_pipeline
from pipeline.plan import RunPlan
from pipeline.runners import compile_pipeline
from schemas.ledger_records import ChampionRecord, ModelRecord
from schemas.scores import PrequentialScore
from schemas.spans import SpanRef

ROOT = "/root-of-the-pipeline"
# Documents that the resolved config shows in full: here stands only what of them is handed over.
DOCUMENTS = {"feature_set", "options", "custom_config", "label"}
# TFDV's options have a key for everything, and other keys in each release: here stands the one that we set.
STATISTICS_OPTION = "num_rank_histogram_buckets"
REFS = tuple(SpanRef(span=span, version=1, digest=f"digest-of-{span}") for span in (7, 8, 9))
CHAMPION = ChampionRecord.model_validate(
    {
        "version": 1,
        "run_id": "run-of-8",
        "span": 8,
        "span_version": 1,
        "model_uri": "/model/8",
        "model_digest": "digest-of-model",
        "training_digest": "digest-of-training",
        "transform_graph_uri": "/transform/8",
        "transform_span": 8,
        "statistics_uri": "/statistics/7-8",
        "model_shape": "shape",
        "pushed_at": "2013-03-01T00:00:00Z",
        "moved_at": "2013-03-01T00:00:00Z",
    }
)


@pytest.fixture(scope="module", params=["cold", "warm", "refresh", "score", "judgement"])
def compiled(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """TFX's representation of conf/flights.yaml, as JSON, in every shape that a plan can ask for."""
    is_cold, is_refresh = request.param == "cold", request.param == "refresh"
    plan = RunPlan(
        run_id=f"{request.param}-run",
        trigger="manual",
        action="score" if request.param == "score" else "train",
        span=REFS[1] if is_cold else REFS[2],
        window=REFS[:2] if is_cold else REFS[2:],
        initialisation="cold" if is_cold else "warm",
        champion=None if is_cold else CHAMPION,
        base=None if is_cold else ModelRecord.model_validate(CHAMPION.model_dump(exclude={"moved_at"})),
        candidate_uri="/models/9" if request.param == "judgement" else None,
        candidate_run_id="warm-run" if request.param == "judgement" else None,
        line_length=0 if is_cold else 1,
        transform_graph_uri=None if is_cold or is_refresh else CHAMPION.transform_graph_uri,
        analysis_window=REFS[:2] if is_cold else REFS if is_refresh else (),
        previous_statistics_uri=None if is_cold else "/statistics/8",
        reference_statistics_uri=None if is_cold else CHAMPION.statistics_uri,
        replay_uri=None if is_cold else "/replay/8",
        prequential_history=() if is_cold else (PrequentialScore(span=8, num_examples=10, metrics={"auc": 0.7}),),
        is_prequential=not is_cold,
        is_shadow=False,
        push_version=1 if is_cold else 2,
        why=("golden",),
    )
    config = load_config(Path("conf/flights.yaml"), (f"root={ROOT}",))
    representation = compile_pipeline(build_pipeline(config, plan, code_digest="digest-of-code"), plan.run_id)
    return request.param, json_format.MessageToDict(representation)


def test_compiled_pipeline_is_the_reviewed_one(compiled, check_golden):
    name, representation = compiled
    executors = representation["deploymentConfig"]["executorSpecs"]
    nodes = [_described(entry["pipelineNode"], executors) for entry in representation["nodes"]]
    check_golden(f"pipeline-{name}.yaml", yaml.safe_dump(nodes, sort_keys=False, width=120))


def test_nothing_is_resolved_while_the_pipeline_runs(compiled):
    _, representation = compiled
    types = [entry["pipelineNode"]["nodeInfo"]["type"]["name"] for entry in representation["nodes"]]
    assert not [name for name in types if "esolver" in name]
    # Importers are the only nodes with a driver of TFX's own; spans are parameters, no driver looks for them.
    assert "customDriverSpecs" not in representation["deploymentConfig"]
    text = json.dumps(representation)
    for word in ("inputGraph", "resolverConfig", "resolver_class", "range_config", "input_config"):
        assert f'"{word}' not in text


def test_every_input_names_the_run_it_comes_from(compiled):
    name, representation = compiled
    for entry in representation["nodes"]:
        for spec in entry["pipelineNode"].get("inputs", {}).get("inputs", {}).values():
            for channel in spec["channels"]:
                contexts = {
                    query["type"]["name"]: query["name"]["fieldValue"]["stringValue"]
                    for query in channel["contextQueries"]
                }
                assert contexts["pipeline_run"] == f"{name}-run"


def _described(node: dict[str, Any], executors: dict[str, Any]) -> dict[str, Any]:
    """Return what a reviewer wants to know of a node: who runs, on what, with what, on which condition."""
    node_id = node["nodeInfo"]["id"]
    executor = executors.get(node_id, {})
    inputs = node.get("inputs", {})
    described = {
        "id": node_id,
        "type": node["nodeInfo"]["type"]["name"],
        "executor": executor.get("classPath") or executor.get("pythonExecutorSpec", {}).get("classPath"),
        "beam": executor.get("beamPipelineArgs"),
        "condition": [_condition(each["placeholderExpression"]) for each in inputs.get("conditionals", {}).values()],
        "inputs": {
            key: [_source(channel) for channel in spec["channels"]]
            for key, spec in sorted(inputs.get("inputs", {}).items())
            if not key.startswith("_")
        },
        "parameters": {
            key: _value(key, parameter["fieldValue"])
            for key, parameter in sorted(node.get("parameters", {}).get("parameters", {}).items())
        },
        "outputs": {
            key: spec["artifactSpec"]["type"]["name"]
            for key, spec in sorted(node.get("outputs", {}).get("outputs", {}).items())
        },
    }
    return {key: value for key, value in described.items() if value}


def _source(channel: dict[str, Any]) -> str:
    return f"{channel['producerNodeQuery']['id']}.{channel['outputKey']}"


def _condition(expression: dict[str, Any]) -> str:
    compare = expression["operator"]["compareOp"]
    left = compare["lhs"]["operator"]["artifactPropertyOp"]
    artifact = left["expression"]["operator"]["indexOp"]["expression"]["placeholder"]["key"].lstrip("_")
    return f"{artifact}.{left['key']} {compare['op']} {compare['rhs']['value']['intValue']}"


def _value(key: str, value: dict[str, Any]) -> Any:
    (content,) = value.values()
    if key in DOCUMENTS:
        return f"JSON with {', '.join(sorted(json.loads(content)))}"
    if key == "stats_options_json":
        return {STATISTICS_OPTION: json.loads(content)[STATISTICS_OPTION]}
    if isinstance(content, str) and content.startswith(("{", "[")):
        return json.loads(content)
    return content.replace(str(Path.cwd()), ".") if isinstance(content, str) else content
