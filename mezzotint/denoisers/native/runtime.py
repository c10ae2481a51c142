"""The native kernels as Python objects: a pool of threads, a quantised matrix, a stack of layers with its cache.

Arrays go in and out as contiguous numpy arrays; every call checks shapes and ranges first, because past this file
nothing does.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mezzotint.denoisers.native.build import NativeUnavailable, library
from mezzotint.errors import CapacityError, CheckpointError

Floats = NDArray[np.float32]
BLOCK = 32
"""Inputs that share one scale."""


@cache
def _lib() -> ctypes.CDLL:
    path = library()
    try:
        lib = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"the native kernels cannot be loaded: {error}") from error
    pointer, number = ctypes.c_void_p, ctypes.c_int
    for name, result in {"pool_new": pointer, "linear_new": pointer, "stack_new": pointer, "head_new": pointer}.items():
        getattr(lib, f"mz_{name}").restype = result
    lib.mz_instructions.restype = ctypes.c_char_p
    lib.mz_stack_length.restype = number
    return lib


def instructions() -> str:
    """Instruction set that the kernels were compiled for: "avx2" or "avx2+vnni"."""
    return _lib().mz_instructions().decode()


def max_rows() -> int:
    """Most rows of one call."""
    return _lib().mz_max_rows()


def _at(array: NDArray[Any] | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data if array is not None else None)


def _ints(values: Sequence[int] | NDArray[Any]) -> NDArray[np.int32]:
    return np.ascontiguousarray(values, np.int32)


class Pool:
    """Threads shared by all stacks of a model."""

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise CapacityError(f"cannot run on {threads} threads: ask for at least one")
        self.threads = threads
        self.handle = ctypes.c_void_p(_lib().mz_pool_new(threads))

    def __del__(self) -> None:
        if handle := self.__dict__.pop("handle", None):
            _lib().mz_pool_free(handle)


class Linear:
    """A quantised matrix [outputs, inputs].

    Args:
        codes: uint8[n, k] in 0..15 when `minimum` is given (Q4), else int8[n, k] (Q8).
        scale: Float[n, k / 32].
        minimum: Float[n, k / 32] or None.
    """

    def __init__(self, codes: NDArray[Any], scale: Floats, minimum: Floats | None) -> None:
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
        made = _lib().mz_linear_new(self.bits, n, k, _at(codes), _at(scale), _at(minimum))
        if not made:
            raise CapacityError(f"not enough memory for a {n} x {k} matrix")
        self.handle = ctypes.c_void_p(made)

    def __del__(self) -> None:
        if handle := self.__dict__.pop("handle", None):
            _lib().mz_linear_free(handle)

    @classmethod
    def from_float(cls, weight: Floats) -> "Linear":
        """Rounds Float[n, k] to 8 bits with one scale per 32 inputs."""
        n, k = weight.shape
        blocks = np.asarray(weight, np.float32).reshape(n, k // BLOCK, BLOCK)
        scale = np.abs(blocks).max(-1) / 127
        codes = np.rint(blocks / np.maximum(scale, 1e-30)[..., None]).astype(np.int8)
        return cls(codes.reshape(n, k), scale, None)

    def rows(self, index: Sequence[int]) -> Floats:
        """Rows of the matrix as floats, Float[len(index), inputs] (Q8 only)."""
        at = _ints(index)
        if self.bits != 8:
            raise CapacityError("cannot read single rows of a matrix of 4 bits: make it of 8")
        if at.size and not (at.min() >= 0 and at.max() < self.outputs):
            wrong = at.min() if at.min() < 0 else at.max()
            raise CapacityError(f"cannot read row {wrong}: the matrix has {self.outputs}")
        out = np.empty((len(at), self.inputs), np.float32)
        _lib().mz_linear_rows(self.handle, len(at), _at(at), _at(out))
        return out

    def apply(
        self, pool: Pool, x: Floats, norm: Floats | None = None, eps: float = 0.0, out: Floats | None = None
    ) -> Floats:
        """x Float[n, inputs] -> Float[n, outputs]; with `norm`, x is RMS-normalised first.

        `out`, Float[at least n, outputs], is written and returned instead of a new array.
        """
        x = np.ascontiguousarray(x, np.float32)
        norm = None if norm is None else np.ascontiguousarray(norm, np.float32)
        _check_shape(x, (len(x), self.inputs))
        if norm is not None:
            _check_shape(norm, (self.inputs,))
        y = np.empty((len(x), self.outputs), np.float32) if out is None else out[: len(x)]
        _check_shape(y, (len(x), self.outputs))
        _lib().mz_linear_apply(pool.handle, self.handle, len(x), _at(x), _at(norm), ctypes.c_float(eps), _at(y))
        return y


class RecurrentHead:
    """A drafter's head, `Drafter.advance` and then the likeliest of `Drafter.logits`, in one call.

    Args:
        mix_in, mix_out: the mixer.
        output: the output matrix with the norm's weight multiplied in.
        embedding: Q8 matrix of the causal network.
        norm: Float[width], weight of the drafter's norm.
    """

    def __init__(self, matrices: tuple[Linear, Linear, Linear, Linear], norm: Floats, eps: float, pool: Pool) -> None:
        self.matrices, self.norm, self.ones, self.pool = matrices, norm, np.ones_like(norm), pool
        handles = [m.handle for m in matrices]
        made = _lib().mz_head_new(*handles, _at(self.norm), _at(self.ones), ctypes.c_float(eps))
        self.handle = ctypes.c_void_p(made)

    def __del__(self) -> None:
        if handle := self.__dict__.pop("handle", None):
            _lib().mz_head_free(handle)

    def follow(
        self, rows: Floats | None, previous: Sequence[int], state: Floats, k: int
    ) -> tuple[Floats, NDArray[np.int32], Floats]:
        """States Float[m, width], advanced where there are `rows`; outputs and log-probabilities, Int and Float[m, k]."""
        state = np.array(state, np.float32, order="C")
        m = len(state)
        if not 0 < m <= max_rows() or state.shape[1] != len(self.norm):
            raise CapacityError(f"cannot draft from states of shape {state.shape}")
        index, value = np.empty((m, k), np.int32), np.empty((m, k), np.float32)
        before = None
        if rows is not None:
            rows, before = np.ascontiguousarray(rows, np.float32), _ints(previous)
            if rows.shape != state.shape or len(before) != m or before.max() >= self.matrices[3].outputs:
                raise CapacityError(f"rows of shape {rows.shape} or tokens do not fit states of shape {state.shape}")
        _lib().mz_head_follow(
            self.pool.handle, self.handle, m, _at(rows), _at(before), _at(state), k, _at(index), _at(value)
        )
        return state, index, value


@dataclass(frozen=True)
class Shape:
    """Sizes of a stack; `window` 0 lets every row see all settled tokens of its lane."""

    width: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    capacity: int
    lanes: int = 1
    window: int = 0
    eps: float = 1e-5
    theta: float = 10_000.0


@dataclass(frozen=True)
class Layer:
    """Matrices of one layer: `qkv` rows are q, k, v; `gate_up` alternates 32 rows of gate and 32 of up."""

    qkv: Linear
    out: Linear
    gate_up: Linear
    down: Linear
    attention_norm: Floats
    mlp_norm: Floats


class Stack:
    """Pre-norm attention and SwiGLU layers over a key/value store with several lanes."""

    def __init__(self, shape: Shape, layers: Sequence[Layer], pool: Pool) -> None:
        s = shape
        if s.heads // s.kv_heads not in (1, 2, 3, 4, 8) or s.head_dim % 32:
            raise CheckpointError(
                f"no native attention for {s.heads} heads, {s.kv_heads} of them stored, of {s.head_dim} channels"
            )
        self.shape, self.layers, self.pool = shape, list(layers), pool
        sizes = _ints([s.width, s.hidden, s.layers, s.heads, s.kv_heads, s.head_dim, s.capacity, s.lanes, s.window])
        numbers = np.array([s.eps, s.theta], np.float32)
        for w in self.layers:
            _check_layer(w, s)
        self._rows = 0
        self.handle = ctypes.c_void_p(_lib().mz_stack_new(_at(sizes), _at(numbers)))
        for i, w in enumerate(self.layers):
            handles = [m.handle for m in (w.qkv, w.out, w.gate_up, w.down)]
            _lib().mz_stack_layer(self.handle, i, *handles, _at(w.attention_norm), _at(w.mlp_norm))

    def __del__(self) -> None:
        if handle := self.__dict__.pop("handle", None):
            _lib().mz_stack_free(handle)

    def length(self, lane: int = 0) -> int:
        """Settled tokens of a lane."""
        if not 0 <= lane < self.shape.lanes:
            raise CapacityError(f"lane {lane} is outside a cache of {self.shape.lanes} x {self.shape.capacity}")
        return _lib().mz_stack_length(self.handle, lane)

    def truncate(self, length: int, lane: int = 0) -> None:
        """Forget all but the first `length` settled tokens."""
        if not 0 <= length <= self.length(lane):
            raise CapacityError(f"cannot keep {length} of {self.length(lane)} tokens")
        _lib().mz_stack_truncate(self.handle, lane, length)

    def run(
        self, x: Floats, positions: NDArray[Any], sees: NDArray[Any], lanes: NDArray[Any], taps: Sequence[int] = ()
    ) -> tuple[Floats, Floats]:
        """One pass.

        Args:
            x: Float[n, width], inputs of the rows.
            positions: Int[n].
            sees: UInt64[n], bit j set where a row sees row j of this call.
            lanes: Int[n].
            taps: numbers of layers after which the residual stream is wanted.

        Returns:
            Float[n, width] after the last layer, Float[n, taps, width].
        """
        n, s = len(x), self.shape
        if not 0 < n <= max_rows():
            raise CapacityError(f"cannot run {n} rows in one pass: at most {max_rows()}")
        positions, lanes = _ints(positions), _ints(lanes)
        if len(positions) != n or len(lanes) != n or len(sees) != n:
            raise CapacityError(f"{n} rows need as many positions, lanes and masks")
        if min(positions.min(), lanes.min()) < 0 or positions.max() >= s.capacity or lanes.max() >= s.lanes:
            raise CapacityError(
                f"position {positions.max()} or lane {lanes.max()} is outside a cache of {s.lanes} x {s.capacity}"
            )
        if not all(1 <= tap <= s.layers for tap in taps):
            raise CapacityError(f"cannot tap after layers {list(taps)}: there are {s.layers}")
        x = np.array(x, np.float32, order="C")
        _check_shape(x, (n, s.width))
        out = np.empty((n, len(taps), s.width), np.float32)
        sees, after = np.ascontiguousarray(sees, np.uint64), _ints(taps)
        _lib().mz_stack_run(
            self.pool.handle,
            self.handle,
            n,
            _at(x),
            _at(positions),
            _at(lanes),
            _at(sees),
            len(taps),
            _at(after),
            _at(out),
        )
        self._rows = n
        return x, out

    def commit(self, rows: Sequence[int], lane: int = 0) -> None:
        """Settle rows of the last pass, in this order, as the next tokens of a lane."""
        at = _ints(rows)
        if at.size and not (at.min() >= 0 and at.max() < self._rows):
            raise CapacityError(f"cannot settle rows {at.tolist()}: the last pass had {self._rows}")
        if self.length(lane) + len(at) > self.shape.capacity:
            raise CapacityError(f"the cache is full: {self.shape.capacity} tokens")
        _lib().mz_stack_commit(self.handle, lane, len(at), _at(at))


def top(pool: Pool, logits: Floats, k: int) -> tuple[NDArray[np.int32], Floats, Floats]:
    """The k largest of each row of Float[n, V]: Int[n, k], Float[n, k], and the log-sum-exp Float[n]."""
    n, vocab = logits.shape
    if not 0 < k <= vocab:
        raise CapacityError(f"cannot take the {k} largest of {vocab}")
    logits = np.ascontiguousarray(logits, np.float32)
    index, value, lse = np.empty((n, k), np.int32), np.empty((n, k), np.float32), np.empty(n, np.float32)
    _lib().mz_top(pool.handle, n, vocab, _at(logits), k, _at(index), _at(value), _at(lse))
    return index, value, lse


def _check_shape(x: NDArray[Any], shape: tuple[int, ...]) -> None:
    if x.shape != shape or x.dtype != np.float32 or not x.flags.c_contiguous:
        raise CapacityError(
            f"cannot use {x.dtype} numbers of shape {list(x.shape)}: float32 of {list(shape)} are needed"
        )


def _check_layer(layer: Layer, s: Shape) -> None:
    """Raises CheckpointError where matrices do not fit the sizes."""
    q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    wanted = [(q + 2 * kv, s.width), (s.width, q), (2 * s.hidden, s.width), (s.width, s.hidden)]
    matrices = (layer.qkv, layer.out, layer.gate_up, layer.down)
    for matrix, (outputs, inputs) in zip(matrices, wanted, strict=True):
        # the passes share out 32 channels at a time
        if (matrix.outputs, matrix.inputs) != (outputs, inputs) or outputs % BLOCK:
            raise CheckpointError(
                f"no native layer with a {matrix.outputs} x {matrix.inputs} matrix where {outputs} x {inputs} is wanted"
            )
    for norm in (layer.attention_norm, layer.mlp_norm):
        _check_shape(norm, (s.width,))
