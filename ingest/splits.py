"""Which split a record belongs to, by its key alone, so that it is the same on every machine and every day."""

import hashlib

_HASH_BYTES = 8


def split_of(key: str, eval_fraction: float) -> str:
    """Return `eval` for a stable share of keys and `train` for the rest.

    The share is exact only in expectation. A larger fraction moves keys from train to eval and none back.

    Example:
        >>> split_of("2013-01-01|UA|1545", 0.2), split_of("2013-01-01|UA|1545", 0.999)
        ('train', 'eval')
    """
    number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=_HASH_BYTES).digest(), "big")
    return "eval" if number < eval_fraction * 2 ** (8 * _HASH_BYTES) else "train"
