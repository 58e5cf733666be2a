"""What docs/performance.md shows can be said to the program."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.config import load_config

TEXT = Path("docs/performance.md").read_text(encoding="utf-8")
CONFIGS = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("text", CONFIGS, ids=range(len(CONFIGS)))
def test_configs_load(tmp_path, text):
    tree = yaml.safe_load(Path("conf/flights.yaml").read_text()) | yaml.safe_load(text)
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(tree))
    config = load_config(path)
    assert {"engine", "beam"} & config.model_fields_set


def test_files_that_it_names_are_there():
    assert len(CONFIGS) >= 3
    for name in re.findall(r"\b(?:deploy|tests|conf)/[\w./-]*\w", TEXT):
        assert Path(name).exists(), name
