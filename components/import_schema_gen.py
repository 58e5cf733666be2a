"""Bring the reviewed schema into the DAG, so that ML Metadata records which one a model was made with."""

import shutil
from pathlib import Path

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Schema

from schemas.loader import load_schema

# Where TFX's components look in a Schema artifact.
SCHEMA_FILE = "schema.pbtxt"


@component
def ImportSchemaGen(schema: OutputArtifact[Schema], schema_file: Parameter[str]) -> None:
    """Copy a schema that can be read; TFX's own component imports all of TFDV and Beam to do so.

    Args:
        schema: Artifact to fill.
        schema_file: The reviewed `schema.pbtxt`.
    """
    load_schema(Path(schema_file))
    shutil.copyfile(schema_file, Path(schema.uri) / SCHEMA_FILE)
