import pytest

from tools.stack import SetupError, choose_stack


@pytest.mark.parametrize(
    ("glibc", "python", "name"),
    [
        ((2, 36), (3, 11), "compat"),
        ((2, 35), (3, 11), "compat"),
        ((2, 38), (3, 11), "current"),
        ((2, 41), (3, 13), "current"),
    ],
    ids=["debian-12", "ubuntu-22.04", "oldest-glibc-of-current", "debian-13"],
)
def test_host_gets_the_newest_stack_that_runs_there(glibc, python, name):
    assert choose_stack(glibc, python).name == name


def test_sentence_names_stack_and_reason():
    sentence = choose_stack((2, 36), (3, 11)).sentence
    assert sentence == "Stack compat (TFX 1.16.0): glibc 2.36 is older than the 2.38 that TFX 1.21 needs; Python 3.11."


@pytest.mark.parametrize("python", [(3, 12), (3, 13)], ids=["3.12", "3.13"])
def test_old_glibc_with_new_python_says_which_python_to_use(python):
    with pytest.raises(SetupError, match=r"needs glibc 2\.38 or newer .* has 2\.36; .*make setup PYTHON=python3\.11"):
        choose_stack((2, 36), python)


def test_other_c_library_is_refused():
    with pytest.raises(SetupError, match="glibc only"):
        choose_stack(None, (3, 11))


def test_forced_stack_wins_over_the_choice():
    assert choose_stack((2, 41), (3, 11), "compat").name == "compat"


@pytest.mark.parametrize(
    ("glibc", "python", "forced", "message"),
    [
        ((2, 41), (3, 13), "compat", r"compat stack needs Python 3\.11, and this is 3\.13; .*PYTHON=python3\.11"),
        (
            (2, 36),
            (3, 11),
            "current",
            r"current stack needs glibc 2\.38 or newer, and this host has 2\.36; .*make test-current",
        ),
        ((2, 36), (3, 11), "newest", r"no stack named 'newest'; set PERENNIAL_STACK to compat or current"),
    ],
    ids=["compat-on-3.13", "current-on-debian-12", "misspelt"],
)
def test_forced_stack_that_cannot_work_is_refused(glibc, python, forced, message):
    with pytest.raises(SetupError, match=message):
        choose_stack(glibc, python, forced)
