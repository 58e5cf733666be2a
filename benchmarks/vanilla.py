"""The cycle that stock TFX components make of one span: what ours is compared with."""

from pathlib import Path
from typing import Any

from tfx.components import (
    Evaluator,
    ExampleValidator,
    ImportExampleGen,
    Pusher,
    StatisticsGen,
    Trainer,
    Transform,
)
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.orchestration import metadata
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import example_gen_pb2, pusher_pb2

from pipeline.config import Config
from pipeline.evaluation import evaluation_config
from pipeline.graph import BEAM_ARGS
from schemas.features import FEATURE_SET_KEY
from schemas.spans import SPLITS
from schemas.training import REQUEST_KEY, TrainerRequest


def vanilla_pipeline(config: Config, span_folder: Path, root: Path) -> Pipeline:
    """Return stock ExampleGen, statistics, validation, Transform, cold Trainer, Evaluator and Pusher over one span."""
    splits = [example_gen_pb2.Input.Split(name=name, pattern=f"Split-{name}/*") for name in SPLITS]
    examples = ImportExampleGen(input_base=str(span_folder), input_config=example_gen_pb2.Input(splits=splits))
    statistics = StatisticsGen(examples=examples.outputs["examples"])
    schema = ImportSchemaGen(schema_file=str(Path(config.schema_file).absolute()))
    validator = ExampleValidator(statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"])
    transform = Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn="transform.preprocessing.preprocessing_fn",
        custom_config={FEATURE_SET_KEY: config.feature_set.model_dump_json()},
    )
    request = TrainerRequest(
        feature_set=config.feature_set,
        # Both sides make as many passes over the span: what differs is all that is around training.
        options=config.training.model_copy(update={"epochs_cold": config.training.epochs_warm}),
        initialisation="cold",
        checkpoint_dir=str(root / "checkpoints"),
    )
    trainer = Trainer(
        run_fn="trainer.run_fn.run_fn",
        examples=examples.outputs["examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema.outputs["schema"],
        custom_config={REQUEST_KEY: request.model_dump_json()},
    )
    evaluator = Evaluator(
        examples=examples.outputs["examples"],
        model=trainer.outputs["model"],
        schema=schema.outputs["schema"],
        eval_config=evaluation_config(config.label, config.gate),
    )
    pusher = Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(root / "serving"))
        ),
    )
    components: list[Any] = [examples, statistics, schema, validator, transform, trainer, evaluator, pusher]
    return Pipeline(
        pipeline_name="vanilla",
        pipeline_root=str(root / "artifacts"),
        components=components,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(root / "metadata.sqlite")),
        enable_cache=False,
        beam_pipeline_args=BEAM_ARGS,
    )
