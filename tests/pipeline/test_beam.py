"""The arguments, as Beam itself reads them: a word that it does not know would be ignored silently."""

from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    TypeOptions,
)
from apache_beam.runners.portability.flink_runner import FlinkJarJobServer
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent

from pipeline.beam import beam_args
from pipeline.config import load_config
from pipeline.graph import build_graph
from pipeline.shape import INT_PARAMETERS, typical_shape
from schemas.engine import BeamOptions

RUNNERS = {
    "in_memory": BeamOptions(),
    "multi_processing": BeamOptions(runner="multi_processing", num_workers=3),
    "flink": BeamOptions(runner="flink", num_workers=2, environment="EXTERNAL", environment_config="localhost:50000"),
    "job_endpoint": BeamOptions(runner="flink", num_workers=2, job_endpoint="flink-jobs:8099"),
}


def read(options: BeamOptions) -> PipelineOptions:
    return PipelineOptions(beam_args(options))


@pytest.mark.parametrize("options", RUNNERS.values(), ids=RUNNERS)
def test_beam_knows_every_argument(options: BeamOptions):
    words = {word.partition("=")[0].removeprefix("--") for word in beam_args(options)}
    known = set(PipelineOptions([]).get_all_options())
    # A flag's own name for what it sets.
    assert {name.removeprefix("no_") for name in words} <= known


def test_in_memory_is_this_process_alone():
    options = read(RUNNERS["in_memory"])
    assert options.view_as(StandardOptions).runner == "FnApiRunner"
    direct = options.view_as(DirectOptions)
    assert (direct.direct_running_mode, direct.direct_num_workers) == ("in_memory", 1)
    assert not options.view_as(TypeOptions).pipeline_type_check


def test_multi_processing_has_its_workers():
    direct = read(RUNNERS["multi_processing"]).view_as(DirectOptions)
    assert (direct.direct_running_mode, direct.direct_num_workers) == ("multi_processing", 3)


def test_flink_starts_the_job_server_of_the_jar_against_the_cluster(tmp_path: Path):
    jar = tmp_path / "server.jar"
    jar.touch()
    chosen = RUNNERS["flink"].model_copy(update={"job_server_jar": str(jar), "flink_master": "jobmanager:8081"})
    options = read(chosen)
    assert options.view_as(StandardOptions).runner == "FlinkRunner"
    portable = options.view_as(PortableOptions)
    assert (portable.environment_type, portable.environment_config) == ("EXTERNAL", "localhost:50000")
    assert options.view_as(FlinkRunnerOptions).parallelism == 2
    words, endpoint = FlinkJarJobServer(options).subprocess_cmd_and_endpoint()
    assert words[:3] == ["java", "-jar", str(jar)]
    assert words[words.index("--flink-master") + 1] == "jobmanager:8081"
    assert endpoint.startswith("localhost:")


def test_flink_takes_a_job_server_that_runs_elsewhere():
    options = read(RUNNERS["job_endpoint"])
    assert options.view_as(StandardOptions).runner == "PortableRunner"
    assert options.view_as(PortableOptions).job_endpoint == "flink-jobs:8099"
    assert options.view_as(FlinkRunnerOptions).parallelism == 2


@pytest.mark.parametrize("name", ["flink", "job_endpoint"])
def test_a_job_may_take_longer_than_five_minutes(name: str):
    """Beam's default for a request's time holds for the stream of a job's states too."""
    assert read(RUNNERS[name]).view_as(PortableOptions).job_server_timeout >= 3600


def test_own_arguments_come_last_and_win():
    assert beam_args(BeamOptions(args=("--parallelism=7",)))[-1] == "--parallelism=7"


def test_nodes_on_beam_are_the_three_that_read_many_examples():
    """They are TFX's; a node of ours that began to use Beam would run on Flink too, which it should say here."""
    config = load_config(Path("conf/flights.yaml"), ("beam.runner=multi_processing", "beam.num_workers=2"))
    shape = typical_shape(config, "cold")
    values = {name: 1 if name in INT_PARAMETERS else "value" for name in shape.parameters}
    graph = build_graph(config, shape, values)
    on_beam = {node.id: node for node in graph.components if isinstance(node, BaseBeamComponent)}
    assert set(on_beam) == {"StatisticsGen", "WindowStatisticsGen", "Transform", "Evaluator"}
    assert {tuple(node.executor_spec.beam_pipeline_args) for node in on_beam.values()} == {
        tuple(beam_args(config.beam))
    }
