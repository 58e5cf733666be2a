import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def run_python(tmp_path):
    """Return what runs code in a Python of its own, which has imported nothing yet; `packages` lie on its path."""

    def run(code, **packages):
        for name, source in packages.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text(source)
            (tmp_path / name / "part.py").write_text("value = 1\n")
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    return run


def defer(*names):
    return f"import core.deferral as d; d.DEFERRED_PACKAGES = frozenset({names!r}); d.defer_imports()\n"


INIT = "print('init ran')\nfrom late import part\nanswer = 42\n"


def test_a_submodule_does_not_need_its_packages_init(run_python):
    code = defer("late") + "from late.part import value; from late import part; print(value, part.value)"
    assert run_python(code, late=INIT).stdout == "1 1\n"


def test_the_first_name_runs_init_once(run_python):
    code = defer("late") + "import late; print('imported'); print(late.answer, late.part.value, late.answer)"
    assert run_python(code, late=INIT).stdout == "imported\ninit ran\n42 1 42\n"


def test_a_name_imported_from_the_package_is_the_packages_own(run_python):
    code = defer("late") + "from late import answer; print(answer)"
    assert run_python(code, late=INIT).stdout == "init ran\n42\n"


def test_a_name_that_is_not_there_is_refused_as_ever(run_python):
    code = defer("late") + "import late; late.nothing"
    assert "AttributeError: module 'late' has no attribute 'nothing'" in run_python(code, late=INIT).stderr


def test_an_init_that_fails_is_tried_again(run_python):
    init = "import os\nif 'READY' not in os.environ: raise ImportError('not ready')\nanswer = 42\n"
    code = defer("late") + (
        "import late, os\n"
        "try: late.answer\n"
        "except ImportError as error: print(error)\n"
        "os.environ['READY'] = '1'; print(late.answer)"
    )
    assert run_python(code, late=init).stdout == "not ready\n42\n"


def test_threads_that_use_a_package_at_once_wait_for_one_init(run_python):
    init = "import time; print('init ran'); time.sleep(0.05)\nanswer = 42\n"
    code = defer("late") + (
        "import late, threading; found = []\n"
        "threads = [threading.Thread(target=lambda: found.append(late.answer)) for _ in range(4)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]; print(found)"
    )
    assert run_python(code, late=init).stdout == "init ran\n[42, 42, 42, 42]\n"


def test_a_beamless_module_gets_beam_at_its_first_use(run_python):
    optional = (
        "try:\n    import apache_beam as beam\n    kind = beam.answer\nexcept Exception:\n    beam = kind = None\n"
    )
    code = (
        "import core.deferral as d; d.BEAMLESS_MODULES = frozenset({'user'}); d.defer_imports()\n"
        "import user; print(user.kind, 'apache_beam' in sys.modules, bool(user.beam)); print(user.beam.answer)"
    )
    assert run_python(code, user=optional, apache_beam=INIT.replace("late", "apache_beam")).stdout == (
        "None False True\ninit ran\n42\n"
    )


def test_a_beamless_module_finds_beam_that_is_loaded(run_python):
    optional = "try:\n    import apache_beam as beam\nexcept ModuleNotFoundError:\n    beam = None\n"
    code = (
        "import core.deferral as d; d.BEAMLESS_MODULES = frozenset({'user'}); d.defer_imports()\n"
        "import apache_beam, user; print(user.beam is apache_beam)"
    )
    assert run_python(code, user=optional, apache_beam="answer = 42\n").stdout == "True\n"


def test_the_hook_is_installed_once(run_python):
    code = "import core.deferral as d; d.defer_imports(); n = len(sys.meta_path); d.defer_imports()\n"
    assert run_python(code + "print(len(sys.meta_path) - n)").stdout == "0\n"
