import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tools import bootstrap
from tools.bootstrap import python_complaint


@pytest.mark.parametrize("version", bootstrap.SUPPORTED_PYTHONS, ids=str)
def test_supported_python_is_not_complained_about(version):
    assert python_complaint(version, "") == ""


@pytest.mark.parametrize("version", [(3, 9), (3, 10), (3, 14)], ids=str)
def test_other_python_gets_one_sentence(version, tmp_path):
    text = python_complaint(version, str(tmp_path))
    assert text == (
        f"Python {version[0]}.{version[1]} can't run Perennial, which needs 3.11, 3.12 or 3.13; install one of them."
    )


def test_complaint_names_a_python_that_would_do(tmp_path):
    better = tmp_path / "python3.12"
    better.touch(mode=0o755)
    assert python_complaint((3, 9), str(tmp_path)).endswith("use the one you have: make setup PYTHON=python3.12.")


def test_wrong_python_can_read_the_entry_point():
    source = Path(bootstrap.__file__).read_text()
    ast.parse(source, feature_version=(3, 6))


def test_wrong_python_ends_with_exit_code_2_and_no_traceback():
    script = f"""
import runpy, sys
sys.version_info = (3, 9, 2, "final", 0)
runpy.run_path({bootstrap.__file__!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("make setup: Python 3.9 can't run Perennial")
    assert done.stderr.count("\n") == 1
