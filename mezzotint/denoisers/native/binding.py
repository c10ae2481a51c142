"""How Python calls the native kernels: the library, arrays as pointers."""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mezzotint.denoisers.native.build import NativeUnavailable, library
from mezzotint.errors import CapacityError

Floats = NDArray[np.float32]
BLOCK = 32
"""Inputs that share one scale."""


@cache
def lib() -> ctypes.CDLL:
    """The kernels, built if need be.

    Raises:
        NativeUnavailable: they cannot be built or loaded here.
    """
    path = library()
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"the native kernels cannot be loaded: {error}") from error
    for name in ("pool_new", "linear_new", "stack_new", "drafter_new"):
        getattr(loaded, f"mz_{name}").restype = ctypes.c_void_p
    loaded.mz_instructions.restype = ctypes.c_char_p
    loaded.mz_stack_length.restype = ctypes.c_int
    return loaded


def max_rows() -> int:
    """Most rows of one call."""
    return lib().mz_max_rows()


def widest_head() -> int:
    """Most channels of a head."""
    return lib().mz_widest_head()


def pointer(array: NDArray[Any] | None) -> ctypes.c_void_p:
    """Where the numbers of an array of any shape lie; null for None."""
    # the interface's address costs a quarter of what `array.ctypes` costs, and a pass of the network asks twenty times
    return ctypes.c_void_p(array.__array_interface__["data"][0] if array is not None else None)


def ints(values: Sequence[int] | NDArray[Any]) -> NDArray[np.int32]:
    """Numbers as the kernels read them: contiguous Int32[...]."""
    return np.ascontiguousarray(values, np.int32)


def within(values: NDArray[Any], low: int, high: int) -> bool:
    """Whether all of a few integers Int[n] are at least `low` and below `high`."""
    few = values.tolist()  # a pass of one token checks six such arrays, and numpy's reductions take six times as long
    return not few or (min(few) >= low and max(few) < high)


def check_shape(x: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Refuse an array that the kernels would misread.

    Raises:
        CapacityError: `x` is not contiguous Float32[*shape].
    """
    if x.shape != shape or x.dtype != np.float32 or not x.flags.c_contiguous:
        raise CapacityError(
            f"cannot use {x.dtype} numbers of shape {list(x.shape)}: float32 of {list(shape)} are needed"
        )
