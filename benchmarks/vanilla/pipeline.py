"""The pipeline of stock components, over one span, and the run of it on TFX's LocalDagRunner."""

from pathlib import Path
from typing import Any

from tensorflow_model_analysis.proto import config_pb2
from tfx import v1 as tfx

from benchmarks.vanilla import user_module
from pipeline.config import Config
from pipeline.evaluation import evaluation_config

# In process, as for ours: `DirectRunner` would look for a Prism binary to download first.
BEAM_ARGS = ["--runner=FnApiRunner"]
MARGIN = 0.02  # of AUC, as ours allows


def run_vanilla(config: Config, root: Path, span: int, *, num_train: int, num_eval: int, epochs: int) -> None:
    """Run ExampleGen to Pusher on one span; the store and the models of earlier spans lie in `root` too.

    Args:
        config: Where the spans lie, features, label, model and gate.
        root: Folder of all that the pipeline makes.
        span: The span.
        num_train: Examples of its train split.
        num_eval: Examples of its eval split.
        epochs: Passes over the train split.
    """
    components = _components(config, root, span, steps=_steps(num_train) * epochs, eval_steps=_steps(num_eval))
    store = tfx.orchestration.metadata.sqlite_metadata_connection_config(str(root / "metadata.sqlite"))
    pipeline = tfx.dsl.Pipeline(
        pipeline_name="vanilla",
        pipeline_root=str(root / "artifacts"),
        components=components,
        metadata_connection_config=store,
        enable_cache=False,
        beam_pipeline_args=BEAM_ARGS,
    )
    tfx.orchestration.LocalDagRunner().run(pipeline)


def _steps(num_examples: int) -> int:
    return -(-num_examples // user_module.BATCH_SIZE)


def _components(config: Config, root: Path, span: int, *, steps: int, eval_steps: int) -> list[Any]:
    examples = _example_gen(config, span)
    statistics = tfx.components.StatisticsGen(examples=examples.outputs["examples"])
    schema = tfx.components.ImportSchemaGen(schema_file=str(Path(config.schema_file).absolute()))
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    features = config.feature_set.model_dump_json()
    transform = tfx.components.Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        # By path, not by `module_file`, which TFX would pack into a wheel first: that is in vanilla's favour.
        preprocessing_fn="transform.preprocessing.preprocessing_fn",
        custom_config={user_module.FEATURE_SET_KEY: features},
    )
    trainer = tfx.components.Trainer(
        run_fn="benchmarks.vanilla.user_module.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema.outputs["schema"],
        train_args=tfx.proto.TrainArgs(num_steps=steps),
        eval_args=tfx.proto.EvalArgs(num_steps=eval_steps),
        custom_config={
            user_module.FEATURE_SET_KEY: features,
            user_module.HIDDEN_UNITS_KEY: list(config.training.model.hidden_units),
            user_module.LEARNING_RATE_KEY: config.training.learning_rate,
            user_module.SEED_KEY: config.training.seed,
        },
    )
    return [examples, statistics, schema, validator, transform, trainer, *_judging(config, root, examples, trainer)]


def _example_gen(config: Config, span: int) -> Any:
    splits = [
        tfx.proto.Input.Split(name=name, pattern=f"span-{{SPAN:6}}/version-{{VERSION}}/Split-{name}/*")
        for name in ("train", "eval")
    ]
    return tfx.components.ImportExampleGen(
        input_base=str(config.spans_path),
        input_config=tfx.proto.Input(splits=splits),
        range_config=tfx.proto.RangeConfig(
            static_range=tfx.proto.StaticRange(start_span_number=span, end_span_number=span)
        ),
    )


def _judging(config: Config, root: Path, examples: Any, trainer: Any) -> list[Any]:
    resolver = tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
    ).with_id("latest_blessed_model_resolver")
    evaluator = tfx.components.Evaluator(
        examples=examples.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=resolver.outputs["model"],
        eval_config=_with_change_threshold(evaluation_config(config.label, config.gate)),
    )
    destination = tfx.proto.PushDestination.Filesystem(base_directory=str(root / "serving"))
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(filesystem=destination),
    )
    return [resolver, evaluator, pusher]


def _with_change_threshold(evaluation: Any) -> Any:
    """Hold the candidate's overall AUC against the last blessed model's too, as the example holds its accuracy."""
    change = config_pb2.GenericChangeThreshold(direction=config_pb2.HIGHER_IS_BETTER, absolute={"value": -MARGIN})
    for metric in evaluation.metrics_specs[0].metrics:
        for bound in metric.per_slice_thresholds:
            if metric.class_name == "AUC" and not bound.slicing_specs[0].feature_keys:
                bound.threshold.change_threshold.CopyFrom(change)
    return evaluation
