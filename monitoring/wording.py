"""How the gate puts numbers into words, so that the same thing is said the same way everywhere."""

from schemas.gate import BootstrapOptions, Difference


def value_words(value: float | None) -> str:
    """Return a metric's value with four decimals at most.

    Example:
        >>> value_words(0.71), value_words(None)
        ('0.71', 'undefined')
    """
    return "undefined" if value is None else f"{value:.4f}".rstrip("0").rstrip(".")


def interval_words(options: BootstrapOptions) -> str:
    """Return the name of the interval that decides.

    Example:
        >>> interval_words(BootstrapOptions(confidence=0.95))
        '95 % interval'
    """
    return f"{100 * options.confidence:g} % interval"


def comparison_words(champion: float | None, difference: Difference | None, options: BootstrapOptions) -> str:
    """Return what is known of the champion's value and the difference to it, to follow the candidate's value."""
    words = "" if champion is None else f", the champion's {value_words(champion)}"
    if difference is not None:
        words += (
            f", a difference of {difference.value:+.4f} ({interval_words(options)} {difference.low:+.4f} to "
            f"{difference.high:+.4f}; {difference.min_detectable_effect:.4f} would be detected)"
        )
    return words


def non_inferiority_words(margin: float, options: BootstrapOptions) -> str:
    """Return what policy `non_inferior` asks.

    Example:
        >>> non_inferiority_words(0.01, BootstrapOptions())
        'not worse than the champion by more than 0.01 (90 % interval)'
    """
    return f"not worse than the champion by more than {margin:g} ({interval_words(options)})"


def superiority_words(options: BootstrapOptions) -> str:
    """Return what policy `superior` asks."""
    return f"better than the champion ({interval_words(options)})"


def undecided_words(num_examples: int, options: BootstrapOptions) -> str:
    """Return why a difference is not known.

    Example:
        >>> undecided_words(57, BootstrapOptions())
        'too few examples (57 of 200 needed) to tell'
    """
    if num_examples < options.min_examples:
        return f"too few examples ({num_examples:,} of {options.min_examples:,} needed) to tell"
    return f"undefined on too many resamples of the {num_examples:,} examples to tell"
