"""Which tokens a refreshed vocabulary begins with. How TensorFlow Transform adds to them is in `transform.features`."""

from schemas.analysis import VocabularyAnalysis


def kept_tokens(base: VocabularyAnalysis, capacity: int, min_frequency: int) -> tuple[str, ...]:
    """Return the tokens that a refresh keeps or takes in from the candidates, in the order of their new ids.

    While all fit, nothing moves: the base's tokens keep their ids and candidates follow, most frequent first. Beyond
    the capacity the least frequent are left out, a token before a candidate of equal count and a lower id before a
    higher one; those that stay keep their order.

    Args:
        base: What the base model knows.
        capacity: Most tokens to return.
        min_frequency: Candidates seen less often stay out.

    Example:
        >>> base = VocabularyAnalysis(tokens=("AA", "UA"), counts=(9, 1), candidates={"WN": 5, "B6": 2})
        >>> kept_tokens(base, capacity=4, min_frequency=1)
        ('AA', 'UA', 'WN', 'B6')
        >>> kept_tokens(base, capacity=3, min_frequency=1)
        ('AA', 'WN', 'B6')
    """
    candidates = [(token, count) for token, count in base.candidates.items() if count >= min_frequency]
    by_frequency = sorted(candidates, key=lambda item: (-item[1], item[0]))
    counted = [*zip(base.tokens, base.counts, strict=True), *by_frequency]
    # Sorting is stable, so that of equal counts the first stays.
    ranked = sorted(range(len(counted)), key=lambda index: counted[index][1], reverse=True)
    return tuple(counted[index][0] for index in sorted(ranked[:capacity]))
