"""The base of every config and document model: frozen, and unknown keys are errors."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A value that does not change and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
