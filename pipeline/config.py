"""One frozen config per pipeline, read from YAML. What a component needs of it is handed over by `pipeline.graph`."""

import os
import re
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from core.digests import digest_of_json
from core.errors import ConfigError, did_you_mean
from pipeline.kubeflow.options import FROM_ENVIRONMENT, KubeflowOptions
from pipeline.policies import CorrectionOptions, RegistryOptions, RetryOptions, TriggerOptions, WorkerOptions
from schemas.base import Record
from schemas.drift import DriftOptions
from schemas.engine import BeamOptions, EngineOptions
from schemas.features import FeatureSet, FeatureSpec, LabelSpec
from schemas.gate import TASK_METRICS, GateOptions
from schemas.ingestion import IngestOptions
from schemas.replay import ReplayOptions
from schemas.training import TrainingOptions

MAX_RENDERED_ERRORS = 10

# `kubeflow` runs on a cluster; `kubeflow-local` runs the same compiled package on this machine, task by task.
RunnerName = Literal["local", "beam", "kubeflow", "kubeflow-local"]


class WindowOptions(Record):
    """Which spans a run trains on, and when the transform graph is analysed anew.

    Attributes:
        cold_spans: Spans in the window of a cold start, the newest last.
        warm_spans: Spans in the window of a warm start.
        refresh_every_spans: Analyse the transform graph anew, over the newest `cold_spans` spans, after this many spans
            (None: only on a cold start). A warm start goes through a refresh without a change of what it predicts.
        shadow_every_spans: Retrain a shadow model in full, cold, over the newest `shadow_spans` spans, after this many
            spans since the last cold start; it serves if it wins at the same gate. None: never.
        shadow_spans: Spans in the window of a shadow model.
    """

    cold_spans: int = Field(default=8, ge=1)
    warm_spans: int = Field(default=1, ge=1)
    refresh_every_spans: int | None = Field(default=None, ge=1)
    shadow_every_spans: int | None = Field(default=None, ge=1)
    shadow_spans: int = Field(default=26, ge=1)


class Config(Record):
    """Everything about one pipeline.

    Attributes:
        name: Name of the pipeline and of the served model; valid for Kubeflow Pipelines.
        root: Folder for all that the pipeline makes; empty: `var/NAME`. Relative paths start at the working directory.
        schema_file: Reviewed TFMD schema, a text proto.
        ledger: SQLAlchemy URL of the ledger, or `env:NAME` for one with a password, which is then read from the
            environment and written down nowhere; empty: SQLite below `root`.
        metadata: URL of ML Metadata, `sqlite:///PATH` or `mysql://...`, or `env:NAME` as for the ledger; empty: SQLite
            below `root`.
        engine: What is computed in this process, and what by Beam.
        beam: Where Beam runs.
        kubeflow: Where and how the `kubeflow` runner runs.
        serving_folder: Where versions are pushed to; empty: `serving` below `root`.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,127}$")
    root: str = ""
    ingest: IngestOptions
    schema_file: str
    features: dict[str, FeatureSpec] = Field(min_length=1)
    label: LabelSpec
    preprocessing_fn: str | None = None
    window: WindowOptions = WindowOptions()
    drift: DriftOptions = DriftOptions()
    training: TrainingOptions = TrainingOptions()
    replay: ReplayOptions = ReplayOptions()
    gate: GateOptions
    triggers: TriggerOptions = TriggerOptions()
    retries: RetryOptions = RetryOptions()
    corrections: CorrectionOptions = CorrectionOptions()
    registry: RegistryOptions = RegistryOptions()
    worker: WorkerOptions = WorkerOptions()
    engine: EngineOptions = EngineOptions()
    beam: BeamOptions = BeamOptions()
    kubeflow: KubeflowOptions = KubeflowOptions()
    ledger: str = ""
    metadata: str = ""
    serving_folder: str = ""
    runner: RunnerName = "local"

    @model_validator(mode="after")
    def _label_is_no_feature(self) -> "Config":
        if self.label.name in self.features:
            raise ValueError(f"expected features without the label; received features with {self.label.name!r}")
        return self

    @model_validator(mode="after")
    def _task_is_consistent(self) -> "Config":
        """Refuse what would only fail, or mean nothing, minutes into the first run."""
        task, num_distinct = self.label.task, len(set(self.label.classes))
        if (task == "multiclass") != (num_distinct >= 2) or num_distinct != len(self.label.classes):
            rule = "at least two distinct label.classes" if task == "multiclass" else "no label.classes"
            raise ValueError(f"expected {rule} for a {task} label; received {list(self.label.classes)}")
        foreign = sorted({bound.metric for bound in self.gate.bounds} - set(TASK_METRICS[task]))
        if foreign:
            raise ValueError(f"expected gate.bounds of a {task} label on {TASK_METRICS[task]}; received {foreign}")
        if task == "regression" and "label_rate" not in self.drift.model_fields_set:
            raise ValueError(
                "expected drift.label_rate for a regression label, since the change of its mean has the label's own "
                "unit and no default can know it; e.g. {warn: 5, block: 20}, or {warn: null} for no bound"
            )
        return self

    @model_validator(mode="after")
    def _replay_has_few_strata(self) -> "Config":
        if self.replay.balance == "class" and self.label.task == "regression":
            raise ValueError("expected replay.balance none or time for a regression label, which has no classes")
        return self

    @model_validator(mode="after")
    def _custom_model_has_a_function(self) -> "Config":
        model = self.training.model
        if (model.kind == "custom") != (model.function is not None):
            raise ValueError(
                "expected training.model.function='module:function' for kind 'custom' and for no other kind; "
                f"received kind={model.kind!r} with function={model.function!r}"
            )
        return self

    @field_validator("ledger", "metadata")
    @classmethod
    def _urls_hold_no_password(cls, url: str) -> str:
        if re.search(r"://[^/@]*:[^/@]*@", url):
            raise ValueError("a password in a database's URL would be written into every run's record. Use env:NAME")
        return url

    @property
    def feature_set(self) -> FeatureSet:
        """Features, label and the user's preprocessing function, as transform and trainer take them."""
        return FeatureSet(features=self.features, label=self.label, preprocessing_fn=self.preprocessing_fn)

    @property
    def ingest_options(self) -> IngestOptions:
        """The options of `ingest`, which must know the label's column."""
        return self.ingest.model_copy(update={"label_column": self.label.name})

    @property
    def root_path(self) -> Path:
        """Absolute folder of all that the pipeline makes."""
        return Path(self.root or f"var/{self.name}").absolute()

    @property
    def spans_path(self) -> Path:
        """Folder of the pipeline's spans."""
        return self.root_path / "spans"

    @property
    def metadata_path(self) -> Path:
        """SQLite file of ML Metadata, where no other URL is given."""
        return self.root_path / "metadata.sqlite"

    @property
    def artifacts_path(self) -> Path:
        """Folder of TFX artifacts."""
        return self.root_path / "artifacts"

    @property
    def statistics_path(self) -> Path:
        """Folder of the statistics of single spans, of which those of windows are merged; nothing is lost with it."""
        return self.root_path / "statistics"

    @property
    def serving_path(self) -> Path:
        """Base folder of the pushed versions, as TensorFlow Serving's `model_base_path` wants it."""
        folder = Path(self.serving_folder).absolute() if self.serving_folder else self.root_path / "serving"
        return folder / self.name

    @property
    def runs_path(self) -> Path:
        """Folder of the decision records, one folder a run."""
        return self.root_path / "runs"

    @property
    def checkpoints_path(self) -> Path:
        """Folder of the Trainer's checkpoints, one folder a plan, gone when its run is over."""
        return self.root_path / "checkpoints"

    @property
    def summary_path(self) -> Path:
        """The HTML summary."""
        return self.root_path / "summary.html"

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return url_from_environment(self.ledger, "the ledger") or f"sqlite:///{self.root_path / 'ledger.sqlite'}"

    @property
    def metadata_url(self) -> str:
        """URL of ML Metadata, as `lineage.store` takes it."""
        return url_from_environment(self.metadata, "ML Metadata") or f"sqlite:///{self.metadata_path}"

    @property
    def digest(self) -> str:
        """Digest of what shapes a model: everything but where things lie, who runs them, and when."""
        places = {"root", "ledger", "metadata", "serving_folder", "runner", "kubeflow", "engine", "beam"}
        policies = {"triggers", "retries", "corrections", "registry", "worker"}
        return digest_of_json(self.model_dump(mode="json", exclude=places | policies))


def url_from_environment(url: str, of: str) -> str:
    """Return a URL, read from the environment where it is `env:NAME`.

    Raises:
        ConfigError: the variable is not set.
    """
    if not url.startswith(FROM_ENVIRONMENT):
        return url
    name = url.removeprefix(FROM_ENVIRONMENT)
    if name not in os.environ:
        raise ConfigError(f"The URL of {of} is missing. Expected it in the environment variable {name!r}. Set it.")
    return os.environ[name]


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read a config file, apply `a.b=value` overrides (values in YAML), and check all of it.

    Raises:
        ConfigError: with file, dotted path, what was expected and received, and the nearest known key.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        near = did_you_mean(str(path), [str(file) for file in path.parent.glob("*.yaml")])
        raise ConfigError(
            f"Config {str(path)!r} does not exist. Expected a YAML file. Name one with --config.{near}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"Config {str(path)!r} cannot be read as YAML: {error}. Correct the file.") from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"Config {str(path)!r} is not a mapping. Expected keys such as 'name'; received {tree!r:.80}. Add them."
        )
    for override in overrides:
        _apply(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_sentences(path, tree, error)) from error


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"Override {override!r} is malformed. Expected KEY=VALUE, e.g. --set root=/tmp/run.")
    *parents, leaf = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"Override {override!r} goes through {parent!r}, which is a value. Expected a mapping.")
        tree = child
    tree[leaf] = yaml.safe_load(text)


def _sentences(path: Path, tree: dict[str, Any], error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    lines = []
    for problem in problems[:MAX_RENDERED_ERRORS]:
        keys = _keys_in_file(tree, problem["loc"])
        if problem["type"] == "extra_forbidden":
            near = did_you_mean(keys[-1], _known_keys(Config, [str(part) for part in problem["loc"][:-1]]))
            lines.append(f"{'.'.join(keys)}: unknown key.{near or ' Remove it.'}")
        elif problem["type"] == "value_error":
            # A sentence of one of our own validators, which says itself what was received.
            lines.append(f"{'.'.join(keys) or 'config'}: {str(problem['ctx']['error']).rstrip('.')}.")
        else:
            received = "a URL" if keys in (["ledger"], ["metadata"]) else f"{problem['input']!r:.80}"
            lines.append(f"{'.'.join(keys) or 'config'}: {problem['msg']}; received {received}.")
    if len(problems) > MAX_RENDERED_ERRORS:
        lines.append(f"... and {len(problems) - MAX_RENDERED_ERRORS} more.")
    return f"Config {str(path)!r} has {len(problems)} error(s):\n  " + "\n  ".join(lines)


def _keys_in_file(tree: Any, location: tuple[int | str, ...]) -> list[str]:
    """Return pydantic's location without the tags of discriminated unions, which are no keys of the file."""
    keys = []
    for part in location:
        is_known = isinstance(part, int) or (isinstance(tree, dict) and part in tree)
        if is_known or part == location[-1]:
            keys.append(str(part))
            tree = tree[part] if is_known else None
    return keys


def _known_keys(annotation: Any, location: list[str]) -> set[str]:
    """Return the keys that could stand at `location`, over all alternatives of unions on the way."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        if not location:
            return set(fields)
        if location[0] in fields:
            return _known_keys(fields[location[0]].annotation, location[1:])
        # A discriminator's tag: it stands in the location but is no key.
        return _known_keys(annotation, location[1:])
    known: set[str] = set()
    for argument in get_args(annotation):
        rest = location[1:] if isinstance(annotation, type(dict[str, int])) else location
        known |= _known_keys(argument, rest)
    return known
