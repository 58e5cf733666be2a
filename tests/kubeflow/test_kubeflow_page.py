"""What docs/kubeflow.md shows can be said to the program, and what it lists is all there is."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from core import errors
from core.errors import PipelineError
from pipeline.kubeflow.options import KubeflowOptions, ResourceOptions

TEXT = Path("docs/kubeflow.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^perennial (?!\()(.+?)(?:\s+[#|] .*)?$", TEXT, flags=re.MULTILINE)
COMMANDS += re.findall(r"`perennial ([a-z][^`]*)`", TEXT)
CONFIGS = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)


def rows(title: str) -> Iterator[list[str]]:
    """Yield the cells of the first table below a title."""
    table = TEXT.split(f"\n{title}\n")[1].split("\n|---")[1].split("\n\n")[0]
    for line in table.splitlines()[1:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_commands_parse(line: str, parse_command: Callable[[str], None]) -> None:
    parse_command(line)


def test_every_command_of_the_group_is_shown() -> None:
    from cli.kubeflow import kubeflow

    shown = {line.split()[1] for line in COMMANDS if line.split()[0] == "kubeflow"}
    assert shown == set(kubeflow.commands)


def test_every_key_is_listed() -> None:
    listed = [key.strip("`") for key, _ in rows("## The config")]
    assert listed == list(KubeflowOptions.model_fields)
    says = next(text for key, text in rows("## The config") if key == "`resources`")
    assert set(re.findall(r"`(\w+)`", says)) == set(ResourceOptions.model_fields)


def test_the_example_loads() -> None:
    (config,) = CONFIGS
    options = KubeflowOptions.model_validate(yaml.safe_load(config)["kubeflow"])
    assert options.nodes["Trainer"].accelerator == "nvidia.com/gpu"


def test_the_codes_are_those_of_the_errors() -> None:
    known = {
        (error.headline, str(error.exit_code))
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, PipelineError) and error is not PipelineError
    }
    listed = {(headline, code) for headline, code, *_ in rows("## When a run fails")}
    assert listed == known - {("Stopped", "75")}


def test_files_exist() -> None:
    named = set(re.findall(r"deploy/[\w./-]*\w", TEXT))
    assert len(named) > 5
    assert [name for name in sorted(named) if not Path(name).exists()] == []


def test_secrets_are_made_as_the_manifests_say() -> None:
    for name in ("deploy/kubernetes/database.yaml", "deploy/kubeflow/runs.yaml"):
        lines = Path(name).read_text(encoding="utf-8").splitlines()
        head = [line.removeprefix("#").strip() for line in lines if line.startswith("#  ")]
        assert head
        assert [line for line in head if line not in TEXT] == []
