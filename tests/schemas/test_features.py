import pytest

from core.errors import DataError
from schemas.features import LabelSpec

BINARY = LabelSpec(name="late")
CLASSES = LabelSpec(name="late", task="multiclass", classes=("early", "7"))


@pytest.mark.parametrize(
    ("label", "value", "number"),
    [(BINARY, 1, 1), (BINARY, 0.5, 0.5), (CLASSES, b"early", 0), (CLASSES, "early", 0), (CLASSES, 7, 1)],
    ids=["integer", "number", "bytes", "text", "integer-class"],
)
def test_label_as_a_number(label, value, number):
    assert label.number_of([value]) == number


@pytest.mark.parametrize(
    ("label", "values", "message"),
    [
        (BINARY, [], r"A record has 0 values of label 'late'\. Expected exactly one"),
        (BINARY, [0, 1], "A record has 2 values"),
        (BINARY, [b"yes"], "Expected a number; received 'yes'"),
        (CLASSES, [8], r"Expected one of \['early', '7'\]; received '8'"),
    ],
    ids=["none", "two", "text", "no-class"],
)
def test_unusable_label_is_refused(label, values, message):
    with pytest.raises(DataError, match=message):
        label.number_of(values)
