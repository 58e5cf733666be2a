import pytest
from pydantic import ValidationError

from schemas.training import TrainingOptions


def test_several_workers_cannot_each_probe_for_themselves():
    with pytest.raises(ValidationError, match=r"Set initialisation to 'warm'.*or distribution to 'mirrored'"):
        TrainingOptions(distribution="multi_worker", initialisation="auto")
    assert TrainingOptions(distribution="mirrored", initialisation="auto").initialisation == "auto"
