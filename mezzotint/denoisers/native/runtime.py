"""The native kernels as Python objects: a pool of threads, a quantised matrix.

Arrays go in and out as contiguous numpy arrays; every call checks shapes and ranges first, because past this file
nothing does.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mezzotint.denoisers.native.binding import BLOCK, Floats, check_shape, ints, lib, pointer, within
from mezzotint.errors import CapacityError, CheckpointError

HEAD = 9
"""What kernels.hpp calls this kind of matrix."""


def instructions() -> str:
    """Instruction set that the kernels were compiled for: "avx2", "avx2+vnni" or "avx512+vnni"."""
    return lib().mz_instructions().decode()


class ThreadPool:
    """Threads shared by all stacks of a model."""

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise CapacityError(f"cannot run on {threads} threads: ask for at least one")
        self.threads = threads
        self.handle = ctypes.c_void_p(lib().mz_pool_new(threads))

    def __del__(self) -> None:
        if handle := self.__dict__.pop("handle", None):
            lib().mz_pool_free(handle)


class NativeLinear:
    """A quantised matrix [outputs, inputs].

    Args:
        codes: uint8[n, k] in 0..15 when `minimum` is given (Q4), else int8[n, k] (Q8).
        scale: Float[n, k / 32].
        minimum: Float[n, k / 32] or None.
        head: a Q8 matrix whose activations are rounded to eight bits instead of sixteen.  That is half the work where
            the processor multiplies bytes, and after an output head no further layer passes on what is rounded.
    """

    def __init__(self, codes: NDArray[Any], scale: Floats, minimum: Floats | None, *, head: bool = False) -> None:
        n, k = codes.shape
        blocks = {scale.shape} if minimum is None else {scale.shape, minimum.shape}
        if n % 8 or k % BLOCK or blocks != {(n, k // BLOCK)}:
            raise CheckpointError(
                f"cannot run a {n} x {k} matrix natively: outputs must be multiples of 8, inputs of {BLOCK}"
            )
        self.outputs, self.inputs, self.bits = n, k, 8 if minimum is None else 4
        codes = np.ascontiguousarray(codes, np.int8 if minimum is None else np.uint8)
        scale = np.ascontiguousarray(scale, np.float32)
        minimum = None if minimum is None else np.ascontiguousarray(minimum, np.float32)
        kind = HEAD if head and minimum is None else self.bits
        made = lib().mz_linear_new(kind, n, k, pointer(codes), pointer(scale), pointer(minimum))
        if not made:
            raise CapacityError(f"not enough memory for a {n} x {k} matrix")
        self.handle = ctypes.c_void_p(made)

    def __del__(self) -> None:
        if handle := self.__dict__.pop("handle", None):
            lib().mz_linear_free(handle)

    @classmethod
    def from_float(cls, weight: Floats, bits: int = 8, *, head: bool = False) -> "NativeLinear":
        """Rounds Float[n, k] to 8 bits with a scale per 32 inputs, or to 4 bits with a scale and a minimum."""
        n, k = weight.shape
        blocks = np.asarray(weight, np.float32).reshape(n, k // BLOCK, BLOCK)
        if bits == 4:
            low = blocks.min(-1)
            scale = np.maximum((blocks.max(-1) - low) / 15, np.float32(1e-12))
            codes = np.rint((blocks - low[..., None]) / scale[..., None]).clip(0, 15).astype(np.uint8)
            return cls(codes.reshape(n, k), scale, low)
        scale = np.abs(blocks).max(-1) / 127
        codes = np.rint(blocks / np.maximum(scale, 1e-30)[..., None]).astype(np.int8)
        return cls(codes.reshape(n, k), scale, None, head=head)

    def rows(self, index: Sequence[int]) -> Floats:
        """Rows of the matrix as floats, Float[len(index), inputs] (Q8 only).

        Raises:
            CapacityError: a matrix of four bits, or no such row.
        """
        at = ints(index)
        if self.bits != 8:
            raise CapacityError("cannot read single rows of a matrix of 4 bits: make it of 8")
        if not within(at, 0, self.outputs):
            wrong = at.min() if at.min() < 0 else at.max()
            raise CapacityError(f"cannot read row {wrong}: the matrix has {self.outputs}")
        out = np.empty((len(at), self.inputs), np.float32)
        lib().mz_linear_rows(self.handle, len(at), pointer(at), pointer(out))
        return out

    def apply(
        self, pool: ThreadPool, x: Floats, norm: Floats | None = None, eps: float = 0.0, out: Floats | None = None
    ) -> Floats:
        """x Float[n, inputs] -> Float[n, outputs]; with `norm`, x is RMS-normalised first.

        `out`, Float[at least n, outputs], is written and returned instead of a new array.
        """
        x = np.ascontiguousarray(x, np.float32)
        norm = None if norm is None else np.ascontiguousarray(norm, np.float32)
        check_shape(x, (len(x), self.inputs))
        if norm is not None:
            check_shape(norm, (self.inputs,))
        y = np.empty((len(x), self.outputs), np.float32) if out is None else out[: len(x)]
        check_shape(y, (len(x), self.outputs))
        lib().mz_linear_apply(
            pool.handle, self.handle, len(x), pointer(x), pointer(norm), ctypes.c_float(eps), pointer(y)
        )
        return y


def top(pool: ThreadPool, logits: Floats, k: int) -> tuple[NDArray[np.int32], Floats, Floats]:
    """The k largest of each row of Float[n, V]: Int[n, k], Float[n, k], and the log-sum-exp Float[n].

    Raises:
        CapacityError: k is not in 1 .. V.
    """
    n, vocab = logits.shape
    if not 0 < k <= vocab:
        raise CapacityError(f"cannot take the {k} largest of {vocab}")
    logits = np.ascontiguousarray(logits, np.float32)
    index, value, lse = np.empty((n, k), np.int32), np.empty((n, k), np.float32), np.empty(n, np.float32)
    lib().mz_top(pool.handle, n, vocab, pointer(logits), k, pointer(index), pointer(value), pointer(lse))
    return index, value, lse
