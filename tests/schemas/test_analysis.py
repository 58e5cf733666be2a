"""Tokens of any bytes as text that JSON can hold, and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.analysis import Analysis, VocabularyAnalysis, token_bytes, token_text

TOKENS = st.one_of(st.binary(max_size=8), st.text("\\xf09ü", max_size=8).map(str.encode))


@given(TOKENS, TOKENS)
def test_every_token_has_a_text_of_its_own(token: bytes, other: bytes) -> None:
    assert token_bytes(token_text(token)) == token
    assert (token_text(token) == token_text(other)) == (token == other)


@given(st.lists(TOKENS, max_size=4))
def test_analysis_survives_json(tokens: list[bytes]) -> None:
    texts = tuple(map(token_text, tokens))
    analysis = Analysis(features={"carrier": VocabularyAnalysis(tokens=texts, counts=(1,) * len(texts))})
    assert Analysis.model_validate_json(analysis.model_dump_json()) == analysis
    assert Analysis.model_validate_json(json.dumps(analysis.model_dump())) == analysis


@pytest.mark.parametrize(
    ("token", "text"), [("Zürich", "Zürich"), (b"\xff", r"\xff"), (rb"\xff", r"\\xff")], ids=["text", "byte", "escape"]
)
def test_text_is_readable(token: str | bytes, text: str) -> None:
    assert token_text(token if isinstance(token, bytes) else token.encode()) == text
