"""Reads a reviewed `NAME/schema.pbtxt`. What the schema's constraints mean for a span is TFDV's business, not ours."""

from collections import Counter
from pathlib import Path
from typing import Literal

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from core.errors import SchemaError

FeatureType = Literal["INT", "FLOAT", "BYTES"]

_FEATURE_TYPES: dict[int, FeatureType] = {
    schema_pb2.INT: "INT",
    schema_pb2.FLOAT: "FLOAT",
    schema_pb2.BYTES: "BYTES",
}


def load_schema(path: Path) -> schema_pb2.Schema:
    """Return the schema written in a text-format protocol buffer.

    Raises:
        SchemaError: the file is missing or no schema, or a feature in it is nameless, doubled or without a type.
    """
    try:
        schema = text_format.Parse(path.read_text(encoding="utf-8"), schema_pb2.Schema())
    except OSError as error:
        raise SchemaError(
            f"Schema {str(path)!r} cannot be read: {error.strerror}. Expected a text-format "
            "tensorflow.metadata.v0.Schema. Set the config's `schema_file` to a reviewed schema.pbtxt."
        ) from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise SchemaError(
            f"Schema {str(path)!r} cannot be parsed. Expected a text-format tensorflow.metadata.v0.Schema; "
            f"received {str(error)!r} (line:column). Correct that line."
        ) from error
    _check_features(path, schema)
    return schema


def feature_types(schema: schema_pb2.Schema) -> dict[str, FeatureType]:
    """Return the raw type of each column of a loaded schema, in the schema's order."""
    return {feature.name: _FEATURE_TYPES[feature.type] for feature in schema.feature}


def _check_features(path: Path, schema: schema_pb2.Schema) -> None:
    if not schema.feature:
        raise SchemaError(
            f"Schema {str(path)!r} has no features. Expected at least one; add a `feature {{ ... }}` block."
        )
    doubled = sorted(name for name, count in Counter(feature.name for feature in schema.feature).items() if count > 1)
    if doubled:
        raise SchemaError(f"Schema {str(path)!r} lists features {doubled} more than once. Keep one block of each.")
    untyped = [feature.name for feature in schema.feature if not feature.name or feature.type not in _FEATURE_TYPES]
    if untyped:
        raise SchemaError(
            f"Schema {str(path)!r} has features without a usable name and type: {untyped}. "
            "Expected type INT, FLOAT or BYTES; add `type:` to each."
        )
