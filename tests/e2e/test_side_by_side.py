"""What runs beside a node does not change what it makes, and a second run makes the same."""

import numpy as np
import pytest

from schemas.model_layout import TRAINING_FOLDER
from trainer.warm_start import read_base_model

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def runs(make_pipeline):
    """Decisions and models of a cold and of a warm cycle, nodes one by one, and two side by side."""

    def run(parallel_nodes):
        pipeline = make_pipeline(engine={"parallel_nodes": parallel_nodes})
        decisions = [pipeline.run(span) for span in (2, 3)]
        folders = sorted(pipeline.config.root_path.glob(f"**/{TRAINING_FOLDER}"), key=lambda path: path.stat().st_mtime)
        return decisions, [read_base_model(folder, None).state for folder in folders]

    return run(1), run(2)


def test_models_are_equal_bit_by_bit(runs):
    (_, one_by_one), (_, side_by_side) = runs
    assert len(one_by_one) == len(side_by_side) == 2
    for one, two in zip(one_by_one, side_by_side, strict=True):
        for mine, others in ((one.weights, two.weights), (one.slots, two.slots)):
            assert mine.keys() == others.keys()
            for name, numbers in mine.items():
                np.testing.assert_array_equal(numbers, others[name], err_msg=name)


def test_decisions_rest_on_equal_numbers(runs):
    for one, two in zip(*(decisions for decisions, _ in runs), strict=True):
        assert one.outcome == two.outcome
        assert one.drift == two.drift
        assert one.gate.candidate == two.gate.candidate
        assert one.gate.champion == two.gate.champion
        assert one.training["steps"] == two.training["steps"]
