"""The entry point of every container task: runs one node of the DAG and records it.

    python -m pipeline.kubeflow.task --node-id ID --node-type TYPE --pipeline NAME --run-id ID \
        --code-digest DIGEST --metadata URL --executor_class_path CLASS --json_serialized_invocation_args JSON \
        [--json_serialized_inputs_spec_args JSON] [Beam's options]

TFX's own entry point opens artifacts by their URIs, and records nothing; its flags mean the same here.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from core.errors import ConfigError, PipelineError
from pipeline.config import url_from_environment
from pipeline.failures import failure_of
from pipeline.kubeflow.options import IMAGE_VARIABLE
from pipeline.quiet import quiet_libraries
from pipeline.sources import digest_of_code

_QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the task that the command line describes; a failure prints headline and sentence.

    Returns:
        The exit code: 0, or that of the failure's class.
    """
    options, beam_args = _parser().parse_known_args(arguments)
    quiet_libraries()
    _bound_threads()
    try:
        _run(options, beam_args)
    except PipelineError as error:
        if error.__cause__ is not None:
            # Nobody can ask a pod that is gone for more.
            traceback.print_exception(error.__cause__)
        sys.stderr.write(f"{error.headline}: Node {options.node_id!r} failed. {error}\n")
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.kubeflow.task",
        description="Run one node of the DAG as KFP's launcher asks, and record it in ML Metadata. What is not named "
        "here goes to Beam.",
        allow_abbrev=False,
    )
    required = parser.add_argument_group("required")
    for name, text in {
        "node-id": "id of the node in the DAG",
        "node-type": "name of its execution type",
        "pipeline": "name of the pipeline",
        "run-id": "name of the run",
        "code-digest": "digest of the code that planned the run; a task of other code refuses to run",
        "metadata": "URL of ML Metadata, or env:NAME of the environment variable that has it",
        "executor_class_path": "dotted path of the TFX executor",
        "json_serialized_invocation_args": "KFP's ExecutorInput",
    }.items():
        required.add_argument(f"--{name}", required=True, help=text)
    parser.add_argument("--json_serialized_inputs_spec_args", help="TFX's ComponentInputsSpec")
    return parser


def _run(options: argparse.Namespace, beam_args: list[str]) -> None:
    url = url_from_environment(options.metadata, "ML Metadata")
    # TFX takes seconds to import, and --help needs none of it.
    from dataclasses import replace

    from pipeline.kubeflow.invocation import check_inputs, read_invocation, run_executor, write_answer
    from pipeline.kubeflow.publication import NodeName, NodePublication

    node = NodeName(
        pipeline=options.pipeline, run_id=options.run_id, node_id=options.node_id, node_type=options.node_type
    )
    publication = NodePublication(url, node)
    try:
        _check_code(options.code_digest)
        asked = read_invocation(options.json_serialized_invocation_args, options.json_serialized_inputs_spec_args)
        execution_id, inputs = publication.begin(asked.inputs, asked.exec_properties)
        known = replace(asked, inputs=inputs)
        check_inputs(inputs)
        result = run_executor(options.executor_class_path, known, execution_id=execution_id, beam_args=beam_args)
        write_answer(known, result)
        publication.complete(known.outputs, result)
    except Exception as error:
        failure = _missing_module(error) or failure_of(error)
        publication.fail(failure)
        raise failure from (error if failure is not error else error.__cause__)


def _check_code(planned_by: str) -> None:
    """Refuse to run a plan by other code than made it: lineage would name the wrong one."""
    if (here := digest_of_code()) != planned_by:
        raise ConfigError(
            f"The code in {_image()} is not the code that planned this run. Expected digest {planned_by[:12]}; "
            f"received {here[:12]}. Build the image from the sources that you submit from, and name it as "
            "`kubeflow.image` in the config, or submit from inside the image; then run the span again."
        )


def _image() -> str:
    image = os.environ.get(IMAGE_VARIABLE)
    return f"image {image!r}" if image else "the image of this task"


def _missing_module(error: BaseException) -> ConfigError | None:
    """Return what to do about a module that the image lacks, if that is what happened."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ModuleNotFoundError):
        # Not the context: libraries look for optional modules, and then raise something else.
        cause = cause.__cause__
    if cause is None:
        return None
    return ConfigError(
        f"Module {cause.name!r} is not in {_image()}. Expected an image that has the modules of your preprocessing_fn, "
        f"model and components; received PYTHONPATH={os.environ.get('PYTHONPATH', '')!r}. Install the module in the "
        "image, and name that image as `kubeflow.image` in the config."
    )


def _bound_threads() -> None:
    """Start as many threads as the container may use processors; TensorFlow would count all of the machine's."""
    num_cpus = str(max(1, round(usable_cpus(_QUOTA_FILE))))
    for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(variable, num_cpus)


def usable_cpus(quota_file: Path) -> float:
    """Return the processors that this process may use: those it is bound to, and at most its quota.

    Args:
        quota_file: `cpu.max` of its control group; missing where there is none.

    Source:
        https://docs.kernel.org/admin-guide/cgroup-v2.html, cpu.max: the quota and the period, in microseconds.
    """
    bound = float(len(os.sched_getaffinity(0)))
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
        return bound if quota == "max" else min(bound, int(quota) / int(period))
    except (OSError, ValueError):
        return bound


if __name__ == "__main__":
    sys.exit(main())
