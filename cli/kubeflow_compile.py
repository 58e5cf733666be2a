"""`perennial kubeflow compile`: write packages for Kubeflow Pipelines."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options import config_options, json_option
from core.errors import ConfigError
from pipeline.quiet import quiet_libraries

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.kubeflow.package import Package
    from pipeline.shape import ShapeName

# As in `pipeline.shape`, which is a quarter of a second away from every other command.
SHAPES: "tuple[ShapeName, ...]" = ("cold", "warm", "refresh", "score", "judgement")
SUFFIX = ".yaml"


@click.command("compile", short_help="Write packages for Kubeflow Pipelines.")
@config_options
@json_option
@click.option("--shape", type=click.Choice(SHAPES), help="Which kind of cycle; default for a file: cold.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True,
    help="A .yaml file for one package, or a folder for one of each shape and the controller's.",
)  # fmt: skip
def compile_packages(
    config_path: Path, overrides: tuple[str, ...], as_json: bool, shape: "ShapeName | None", output: Path
) -> None:
    r"""Compile the pipeline for Kubeflow Pipelines and write it as YAML, with the values of a plan as parameters.

    The shape says which nodes there are: a cold start, a warm one, a warm one that refreshes the transform graph, a
    cycle that only validates and scores, and the second judgement of a candidate whose champion changed. `submit` and
    `schedule` compile for themselves; a file is for reading, for `run-local`, and for uploading by hand.

    \b
    Example:
      perennial kubeflow compile -o pipeline.yaml
      perennial kubeflow compile --shape warm -o warm.yaml
      perennial kubeflow compile -o packages/ --json
    """
    from pipeline.config import load_config
    from pipeline.preflight import check_config

    config = load_config(config_path, overrides)
    quiet_libraries()
    check_config(config)
    if output.suffix == SUFFIX:
        packages = {output: _compiled(config, shape or "cold")}
    elif shape is not None:
        packages = {output / f"{shape}{SUFFIX}": _compiled(config, shape)}
    else:
        packages = {output / f"{package.shape}{SUFFIX}": package for package in _all_packages(config)}
    for path, package in packages.items():
        _write(path, package)
    if as_json:
        click.echo(json.dumps([_described(path, package) for path, package in packages.items()], indent=1))
    else:
        for path, package in packages.items():
            click.echo(f"{path}  {package.version_name}  {' '.join(package.parameters) or '(no parameters)'}")


def _compiled(config: "Config", shape: "ShapeName") -> "Package":
    from pipeline.kubeflow.package import compile_package
    from pipeline.shape import typical_shape

    return compile_package(config, typical_shape(config, shape))


def _all_packages(config: "Config") -> "list[Package]":
    from pipeline.kubeflow.package import compile_controller_package

    return [*(_compiled(config, shape) for shape in SHAPES), compile_controller_package(config)]


def _write(path: Path, package: "Package") -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(package.text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"The package cannot be written to {str(path)!r}: {error.strerror}. Expected a place to write to. Name "
            "another with -o."
        ) from error


def _described(path: Path, package: "Package") -> dict[str, Any]:
    return {
        "path": str(path),
        "pipeline": package.name,
        "shape": package.shape,
        "version": package.version_name,
        "parameters": list(package.parameters),
    }
