"""`perennial predict`: ask the pushed model about one example given in words."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import config_options, json_option
from core.errors import ConfigError, ServingError, did_you_mean
from pipeline.quiet import quiet_libraries

if TYPE_CHECKING:
    from pipeline.config import Config


@click.command(short_help="Ask the champion about one example.")
@config_options
@json_option
@click.argument("features", nargs=-1, metavar="FEATURE=VALUE...")
def predict(config_path: Path, overrides: tuple[str, ...], as_json: bool, features: tuple[str, ...]) -> None:
    r"""Load the champion's SavedModel from the serving folder and predict for one example.

    A feature that is not given is missing, as in the data. A multi-valued feature is given once per value.

    \b
    Example:
      perennial predict carrier=UA origin=EWR dest=IAH hour=17 day_of_week=5 distance=1400
    """
    from pipeline.config import load_config
    from serving.prediction import Predictor
    from serving.version_store import locate

    quiet_libraries()
    config = load_config(config_path, overrides)
    values = _values(config, features)
    version = _champion_version(config)
    # Hidden, for a moment, where the champion pointer has moved and the serving folder has not followed yet.
    folder = locate(config.serving_path, version) or config.serving_path / str(version)
    outputs = Predictor(folder).predict_columns(values)
    prediction = [float(value) for value in outputs.reshape(-1)]
    if as_json:
        click.echo(json.dumps({"model": config.name, "version": version, "prediction": prediction}))
        return
    said = ", ".join(text.replace("=", " ") for text in features)
    click.echo(f"{config.name} version {version}: {_in_words(config, prediction)} for {said}")


def _values(config: "Config", features: tuple[str, ...]) -> dict[str, list[list[str | float]]]:
    """Return one example's values per column, shape `(1, num_values)`."""
    from schemas.loader import feature_types, load_schema

    types = feature_types(load_schema(Path(config.schema_file)))
    # A user's function may read any column but the label's; without one, the features are the columns.
    columns = set(types) - {config.label.name} if config.preprocessing_fn else set(config.features)
    values: dict[str, list[list[str | float]]] = {}
    for text in features:
        name, equals, value = text.partition("=")
        if not equals or name not in columns:
            near = did_you_mean(name, columns)
            raise ConfigError(f"{text!r} names no feature. Expected FEATURE=VALUE, e.g. carrier=UA.{near}")
        try:
            number_or_text = value if types[name] == "BYTES" else float(value)
        except ValueError as error:
            raise ConfigError(f"Feature {name!r} is a number. Expected e.g. {name}=1; received {text!r}.") from error
        row = values.setdefault(name, [[]])[0]
        if row and not getattr(config.features.get(name), "multivalued", False):
            raise ConfigError(f"Feature {name!r} is given twice. Expected one value; received {text!r} too. Drop one.")
        row.append(number_or_text)
    return values


def _champion_version(config: "Config") -> int:
    from ledger.ledger import Ledger

    if Ledger.exists(config.ledger_url):
        with Ledger.open(config.ledger_url, config.name) as ledger:
            champion = ledger.champion()
        if champion is not None:
            return champion.version
    raise ServingError(
        f"Pipeline {config.name!r} has no champion yet. Expected a pushed model. Run `perennial run --next`."
    )


def _in_words(config: "Config", prediction: list[float]) -> str:
    match config.label.task:
        case "binary":
            return f"{prediction[0]:.1%} chance of {config.label.name!r}"
        case "multiclass":
            ranked = sorted(zip(prediction, config.label.classes, strict=True), reverse=True)
            return ", ".join(f"{name} {probability:.1%}" for probability, name in ranked[:3])
        case "regression":
            return f"{config.label.name} = {prediction[0]:.4g}"
