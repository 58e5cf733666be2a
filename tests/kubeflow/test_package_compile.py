import json
import logging
import subprocess
import sys
from typing import get_args

import pytest
import yaml
from click.testing import CliRunner

from cli.kubeflow_compile import SHAPES, compile_packages
from core.errors import ConfigError, SchemaError
from pipeline.shape import ShapeName


@pytest.fixture(autouse=True)
def _root_logger_stays():
    # The command makes libraries quiet for a process of its own.
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


def compile_to(output, *arguments):
    result = CliRunner().invoke(compile_packages, ["-o", str(output), *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_shapes_are_those_that_a_plan_can_have():
    assert get_args(ShapeName) == SHAPES


def test_a_file_gets_the_cold_shape(tmp_path):
    path = tmp_path / "new" / "pipeline.yaml"
    printed = compile_to(path).output
    assert f"{path}  cold-" in printed
    assert "prequential_history push_version run_id span trainer_config window" in printed
    spec, _ = yaml.safe_load_all(path.read_text())
    assert "Transform" in spec["root"]["dag"]["tasks"]


def test_a_folder_gets_every_package(tmp_path):
    listed = json.loads(compile_to(tmp_path, "--json").output)
    assert {each["shape"] for each in listed} == {*SHAPES, "controller"}
    assert {path.name for path in tmp_path.iterdir()} == {f"{each['shape']}.yaml" for each in listed}
    for each in listed:
        spec, _ = yaml.safe_load_all((tmp_path / f"{each['shape']}.yaml").read_text())
        assert sorted(spec["root"].get("inputDefinitions", {}).get("parameters", {})) == each["parameters"]
        assert each["version"].startswith(f"{each['shape']}-")


def test_a_folder_gets_the_one_that_was_asked_for(tmp_path):
    compile_to(tmp_path, "--shape", "score")
    assert [path.name for path in tmp_path.iterdir()] == ["score.yaml"]


def test_mistakes_are_found_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'Trainer'"):
        compile_to(tmp_path / "x.yaml", "--set", "kubeflow.nodes.Traner.cpu='1'")
    with pytest.raises(ConfigError, match="'nonsense' of the config is not in the schema"):
        compile_to(tmp_path / "x.yaml", "--set", "features.nonsense={kind: numeric}")
    with pytest.raises(SchemaError, match="absent"):
        compile_to(tmp_path / "x.yaml", "--set", "schema_file=absent.pbtxt")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be written to .*Name another with -o"):
        compile_to(tmp_path / "file" / "pipeline.yaml", "--shape", "judgement")


def test_help_loads_neither_tfx_nor_the_config():
    code = (
        "import sys; from cli.main import perennial;"
        "perennial(['kubeflow', 'compile', '--help'], standalone_mode=False);"
        "print(sorted({'tfx', 'tensorflow', 'kfp', 'pipeline.config'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
