"""What counts as a number where callers give one: bool is none, numpy's are."""

import numpy as np


def is_number(value: object) -> bool:
    """Whether it is an integer or a float, also NaN and infinity."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    """Whether it is an integer."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
