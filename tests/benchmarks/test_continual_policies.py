import pytest

from benchmarks.continual.policies import NEURAL_POLICIES
from schemas.training import TrainingOptions


def test_policies_have_names_of_their_own():
    names = [policy.name for policy in NEURAL_POLICIES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("policy", NEURAL_POLICIES, ids=lambda policy: policy.name)
def test_options_of_a_policy_keep_the_rest_of_the_streams(policy):
    options = policy.options(TrainingOptions(decay_steps=77))
    assert options.decay_steps == 77
    assert policy.training.items() <= options.model_dump(exclude_unset=True).items() or policy.training
