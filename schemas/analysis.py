"""What a transform graph knows from data, as values that travel with the model in `Format-Training/analysis.json`.

A refresh builds the next graph on it, and a warm start moves weights from one analysis to the next. How a graph is
built is in `transform/`; how weights move is in `trainer/`.
"""

import re
from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Record

ANALYSIS_FILE = "analysis.json"  # in Format-Training
# Key of Transform's custom config under which the base model's Analysis stands, as JSON, when a graph is refreshed.
BASE_ANALYSIS_KEY = "base_analysis"
# The transform graph's extra outputs, float32, shape (batch, k), equal in every row: what it was analysed to.
NUMERIC_ANALYSIS_SUFFIX = "_scaling"  # [mean, scale, missing_value, low, high]
BUCKETS_ANALYSIS_SUFFIX = "_boundaries"  # bucket boundaries, ascending
# In the text of a token: a doubled backslash, or one byte in hexadecimal.
_ESCAPE = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")


class NumericAnalysis(Record):
    """How a raw number becomes a model input: `(clip(missing -> missing_value, low, high) - mean) / scale`.

    All are exact float32 values. Mean and scale are re-analysed on a refresh; the other three are raw values that stay
    from the cold start on, because an affine change of the input could not undo a change of them.
    """

    kind: Literal["numeric"] = "numeric"
    mean: float
    scale: float = Field(gt=0)
    missing_value: float
    low: float
    high: float


class BucketAnalysis(Record):
    """Bucket boundaries, ascending; they stay until a cold start."""

    kind: Literal["bucketized"] = "bucketized"
    boundaries: tuple[float, ...]


class VocabularyAnalysis(Record):
    """A vocabulary and how often its tokens were seen.

    Attributes:
        tokens: Tokens in the order of their ids, as `token_text` writes them.
        counts: How often each was seen in all training data since the cold start, in the order of `tokens`.
        candidates: Tokens outside the vocabulary with their counts, at most `capacity` of them, most frequent first:
            what a refresh may take in.
    """

    kind: Literal["vocabulary"] = "vocabulary"
    tokens: tuple[str, ...]
    counts: tuple[int, ...]
    candidates: dict[str, int] = {}


FeatureAnalysis = Annotated[NumericAnalysis | BucketAnalysis | VocabularyAnalysis, Field(discriminator="kind")]


class Analysis(Record):
    """What was analysed, by feature; features that need no analysis (cyclic, hashed) are absent."""

    features: dict[str, FeatureAnalysis]


def token_text(token: bytes) -> str:
    r"""Return a token of any bytes as text that JSON can hold; `token_bytes` undoes it.

    It is the token's UTF-8 text, except that a backslash is doubled and a byte that is not UTF-8 becomes `\xhh`.

    Example:
        >>> token_text("Zürich".encode()), token_text(b"\xff"), token_text(rb"\xff")
        ('Zürich', '\\xff', '\\\\xff')
    """
    return token.replace(b"\\", rb"\\").decode(errors="backslashreplace")


def token_bytes(text: str) -> bytes:
    """Return the token that `token_text` gave as `text`."""
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()) if match[1] else b"\\", text.encode())
