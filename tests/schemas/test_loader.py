"""Schemas that cannot be used are refused with their path and place."""

from pathlib import Path

import pytest

from core.errors import SchemaError
from schemas.loader import feature_types, load_schema


def test_types_come_in_the_schemas_order(tmp_path: Path) -> None:
    (tmp_path / "s.pbtxt").write_text('feature { name: "b" type: FLOAT }\nfeature { name: "a" type: BYTES }')
    assert list(feature_types(load_schema(tmp_path / "s.pbtxt")).items()) == [("b", "FLOAT"), ("a", "BYTES")]


def test_a_missing_schema_is_named(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"none.pbtxt' cannot be read: No such file"):
        load_schema(tmp_path / "none.pbtxt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'feature {\n  nam: "a"\n}', r"cannot be parsed.*2:3"),
        (b"\xff", "cannot be parsed"),
        (b"", "has no features"),
        (b'feature { name: "a" }', r"without a usable name and type: \['a'\]"),
        (b'feature { name: "a" type: INT }\nfeature { name: "a" type: INT }', r"\['a'\] more than once"),
    ],
    ids=["unknown field", "no text", "empty", "no type", "twice"],
)
def test_an_unusable_schema_says_why(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "s.pbtxt").write_bytes(text)
    with pytest.raises(SchemaError, match=message):
        load_schema(tmp_path / "s.pbtxt")
