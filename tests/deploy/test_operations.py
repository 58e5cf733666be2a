"""What docs/operations.md shows can be said to the program: its configs load, its commands parse."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.config import load_config

TEXT = Path("docs/operations.md").read_text(encoding="utf-8")
CONFIGS = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = re.findall(r"^perennial (.+?)(?:\s+#.*)?$", TEXT, flags=re.MULTILINE)
COMMANDS += re.findall(r"`perennial ([a-z][^`]*)`", TEXT)


@pytest.mark.parametrize("text", CONFIGS, ids=range(len(CONFIGS)))
def test_policies_load(tmp_path, text):
    tree = yaml.safe_load(Path("conf/flights.yaml").read_text()) | yaml.safe_load(text)
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(tree))
    assert load_config(path).triggers.policies[0].name == "manual"


def test_there_are_examples():
    assert len(CONFIGS) == 4
    assert {"watch", "trigger", "backfill", "model"} <= {command.split()[0] for command in COMMANDS}


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line, parse_command):
    parse_command(line)


def test_every_event_of_the_log_is_named():
    said = set()
    for path in ("pipeline/daemon.py", "pipeline/term.py", "cli/watch.py"):
        said |= set(re.findall(r'"event": "([a-z_]+)"|_about\(cycle, "([a-z_]+)"\)', Path(path).read_text()))
    events = {event for pair in said for event in pair if event}
    assert len(events) > 10
    assert [event for event in sorted(events) if f"`{event}`" not in TEXT] == []
