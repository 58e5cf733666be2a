"""Writes an evaluation as TFMA's writers do, without Beam: `tfma.load_eval_result` and all its siblings read it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.files import write_text_atomically
from monitoring.tfma_in_process import SplitEvaluation

# As TFMA's writers name their files when Beam writes one shard of each.
_SHARDED = "{name}-00000-of-00001.tfrecord"
_VALIDATIONS = "validations.tfrecord"


def write_evaluation(
    folder: Path, config: Any, evaluation: SplitEvaluation, *, model_locations: Mapping[str, Path]
) -> None:
    """Write metrics, validations and config; plots and attributions, of which there are none, as TFMA does then.

    Args:
        folder: An empty folder.
        config: The `EvalConfig` that was evaluated.
        evaluation: What came out.
        model_locations: Folder of each model's SavedModel, by name of its `ModelSpec`; for display only.
    """
    from tensorflow_model_analysis import constants
    from tensorflow_model_analysis.writers.eval_config_writer import EVAL_CONFIG_FILE, _serialize_eval_run
    from tensorflow_model_analysis.writers.metrics_plots_and_validations_writer import (
        convert_slice_attributions_to_proto,
        convert_slice_metrics_to_proto,
        convert_slice_plots_to_proto,
    )

    slices = list(evaluation.metrics)
    metrics = [convert_slice_metrics_to_proto((key, dict(evaluation.metrics[key])), None) for key in slices]
    plots = [convert_slice_plots_to_proto((key, {}), None) for key in slices]
    attributions = [convert_slice_attributions_to_proto((key, {})) for key in slices]
    for name, messages in (
        (constants.METRICS_KEY, metrics),
        (constants.PLOTS_KEY, plots),
        (constants.ATTRIBUTIONS_KEY, attributions),
    ):
        _write_records(folder / _SHARDED.format(name=name), messages)
    _write_records(folder / _VALIDATIONS, [evaluation.validation])
    locations = {name: str(location) for name, location in model_locations.items()}
    text = _serialize_eval_run(config, "<user provided PCollection>", "<unknown>", locations)
    write_text_atomically(folder / f"{EVAL_CONFIG_FILE}.json", f"{text}\n")


def _write_records(path: Path, messages: list[Any]) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for message in messages:
            writer.write(message.SerializeToString())
