"""Put a blessed model beside those that serve, hidden until the controller makes it the champion."""

from pathlib import Path

from tfx.components.util import model_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Model, ModelBlessing, PushedModel

from schemas.model_layout import SERVING_FOLDER
from schemas.provenance import PUSHED, PUSHED_DESTINATION, PUSHED_VERSION
from serving.version_store import stage


@component
def Pusher(
    model: InputArtifact[Model],
    blessing: InputArtifact[ModelBlessing],
    pushed_model: OutputArtifact[PushedModel],
    destination: Parameter[str],
    version: Parameter[int],
) -> None:
    """Stage a blessed model under the planned version; a model that is not blessed is recorded as not pushed.

    TFX's Pusher names versions by the second and copies in place. Here the version is the ledger's, and no server sees
    it before the champion pointer has moved: a killed or overtaken run changes nothing that serves.

    Args:
        model: The candidate.
        blessing: The gate's verdict on it.
        pushed_model: Artifact to fill.
        destination: Base folder of the served model.
        version: Version to stage it as.
    """
    is_blessed = model_utils.is_model_blessed(blessing)
    pushed_model.set_int_custom_property(PUSHED, int(is_blessed))
    if is_blessed:
        target = stage(Path(model.uri) / SERVING_FOLDER, Path(destination), version)
        pushed_model.set_int_custom_property(PUSHED_VERSION, version)
        pushed_model.set_string_custom_property(PUSHED_DESTINATION, str(target))
