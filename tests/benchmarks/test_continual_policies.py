import pytest

from benchmarks.continual.policies import NEURAL_POLICIES, Policy
from schemas.training import TrainingOptions


def test_policies_have_names_of_their_own():
    names = [policy.name for policy in NEURAL_POLICIES]
    assert len(set(names)) == len(names)


def test_options_of_a_policy_keep_the_rest_of_the_streams():
    policy = Policy("p", "", training={"replay_ratio": 2.0}, on_flights={"batch_size": 7})
    options = TrainingOptions(decay_steps=77, batch_size=99)
    on_flights, elsewhere = (policy.options(stream, options) for stream in ("flights", "abrupt"))
    assert (on_flights.decay_steps, on_flights.replay_ratio, on_flights.batch_size) == (77, 2.0, 7)
    assert (elsewhere.decay_steps, elsewhere.replay_ratio, elsewhere.batch_size) == (77, 2.0, 99)


@pytest.mark.parametrize("stream", ["flights", "abrupt"])
@pytest.mark.parametrize("policy", NEURAL_POLICIES, ids=lambda policy: policy.name)
def test_every_policy_has_valid_options(policy, stream):
    assert policy.options(stream, TrainingOptions()).batch_size > 0
