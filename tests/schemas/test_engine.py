import pytest

from schemas.engine import BeamOptions, EngineOptions


def test_a_plain_word_is_the_engine():
    assert EngineOptions.model_validate("beam").choose(1, 1) == "beam"


@pytest.mark.parametrize(
    ("num_examples", "num_bytes", "engine"),
    [(10, 2**20, "in_process"), (11, 1, "beam"), (1, 2**20 + 1, "beam")],
)
def test_auto_takes_this_process_up_to_both_limits(num_examples, num_bytes, engine):
    assert EngineOptions(max_examples=10, max_megabytes=1).choose(num_examples, num_bytes) == engine


def test_a_named_engine_has_no_limit():
    assert EngineOptions(use="in_process", max_examples=1).choose(10**9, 10**12) == "in_process"


@pytest.mark.parametrize("args", [("--runner=DaskRunner",), ("--streaming", "--runner", "DirectRunner")])
def test_a_runner_by_arguments_is_refused(args):
    with pytest.raises(
        ValueError, match=r"'--runner.*loses data\. Set beam\.runner to in_memory, multi_processing or fl"
    ):
        BeamOptions(args=args)
