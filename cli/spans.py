"""How the command line names a range of spans."""

import re

from core.errors import ConfigError


def parse_span_range(text: str) -> range:
    """Return the spans of `A..B`, both ends included; `A` alone is one span.

    Raises:
        ConfigError: the text is no range.

    Example:
        >>> list(parse_span_range("8..10"))
        [8, 9, 10]
    """
    match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text)
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise ConfigError(f"Span range {text!r} is malformed. Expected A..B with A <= B, e.g. 9..14. Correct it.")
    return range(int(match[1]), int(match[2] or match[1]) + 1)
