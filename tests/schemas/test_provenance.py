"""The spans property: what the components write is what lineage reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.provenance import decode_spans, encode_spans
from schemas.spans import SpanRef

refs = st.builds(SpanRef, span=st.integers(0, 10**6), version=st.integers(1, 99), digest=st.text(max_size=64))


@given(st.lists(refs, max_size=10))
def test_spans_come_back_in_order(spans: list[SpanRef]) -> None:
    assert list(decode_spans(encode_spans(spans))) == sorted(spans, key=lambda ref: (ref.span, ref.version))


@pytest.mark.parametrize(
    "text", ["", "[", '{"span": 1}', '[{"span": 1}]', '[{"span": -1, "version": 1, "digest": ""}]']
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting value|Spans are no list|validation error"):
        decode_spans(text)
