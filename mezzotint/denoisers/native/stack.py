"""A stack of native layers with its key/value store."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mezzotint.denoisers.native.binding import (
    BLOCK,
    Floats,
    check_shape,
    ints,
    lib,
    max_rows,
    pointer,
    widest_head,
    within,
)
from mezzotint.denoisers.native.runtime import NativeLinear, ThreadPool
from mezzotint.errors import CapacityError, CheckpointError


@dataclass(frozen=True)
class StackShape:
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
class NativeLayer:
    """Matrices of one layer: `qkv` rows are q, k, v; `gate_up` alternates 32 rows of gate and 32 of up."""

    qkv: NativeLinear
    out: NativeLinear
    gate_up: NativeLinear
    down: NativeLinear
    attention_norm: Floats
    mlp_norm: Floats


class NativeStack:
    """Pre-norm attention and SwiGLU layers over a key/value store with several lanes."""

    def __init__(self, shape: StackShape, layers: Sequence[NativeLayer], pool: ThreadPool) -> None:
        s = shape
        if s.heads // s.kv_heads not in (1, 2, 3, 4, 8) or s.head_dim % 32 or s.head_dim > widest_head():
            raise CheckpointError(
                f"no native attention for {s.heads} heads, {s.kv_heads} of them stored, of {s.head_dim} channels"
            )
        self.shape, self.layers, self.pool = shape, list(layers), pool
        sizes = ints([s.width, s.hidden, s.layers, s.heads, s.kv_heads, s.head_dim, s.capacity, s.lanes, s.window])
        numbers = np.array([s.eps, s.theta], np.float32)
        for w in self.layers:
            _check_layer(w, s)
        self._rows = 0
        self.handle = ctypes.c_void_p(lib().mz_stack_new(pointer(sizes), pointer(numbers)))
        for i, w in enumerate(self.layers):
            handles = [m.handle for m in (w.qkv, w.out, w.gate_up, w.down)]
            lib().mz_stack_layer(self.handle, i, *handles, pointer(w.attention_norm), pointer(w.mlp_norm))

    def __del__(self) -> None:
        if handle := self.__dict__.pop("handle", None):
            lib().mz_stack_free(handle)

    def length(self, lane: int = 0) -> int:
        """Settled tokens of a lane.

        Raises:
            CapacityError: no such lane.
        """
        if not 0 <= lane < self.shape.lanes:
            raise CapacityError(f"lane {lane} is outside a cache of {self.shape.lanes} x {self.shape.capacity}")
        return lib().mz_stack_length(self.handle, lane)

    def truncate(self, length: int, lane: int = 0) -> None:
        """Forget all but the first `length` settled tokens."""
        if not 0 <= length <= self.length(lane):
            raise CapacityError(f"cannot keep {length} of {self.length(lane)} tokens")
        lib().mz_stack_truncate(self.handle, lane, length)

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

        Raises:
            CapacityError: too many rows, or arrays, positions, lanes or taps that do not fit the store.
        """
        n, s = len(x), self.shape
        if not 0 < n <= max_rows():
            raise CapacityError(f"cannot run {n} rows in one pass: at most {max_rows()}")
        positions, lanes = ints(positions), ints(lanes)
        if len(positions) != n or len(lanes) != n or len(sees) != n:
            raise CapacityError(f"{n} rows need as many positions, lanes and masks")
        if not within(positions, 0, s.capacity) or not within(lanes, 0, s.lanes):
            raise CapacityError(
                f"position {positions.max()} or lane {lanes.max()} is outside a cache of {s.lanes} x {s.capacity}"
            )
        if not all(1 <= tap <= s.layers for tap in taps):
            raise CapacityError(f"cannot tap after layers {list(taps)}: there are {s.layers}")
        x = np.array(x, np.float32, order="C")
        check_shape(x, (n, s.width))
        out = np.empty((n, len(taps), s.width), np.float32)
        sees, after = np.ascontiguousarray(sees, np.uint64), ints(taps)
        lib().mz_stack_run(
            self.pool.handle,
            self.handle,
            n,
            pointer(x),
            pointer(positions),
            pointer(lanes),
            pointer(sees),
            len(taps),
            pointer(after),
            pointer(out),
        )
        self._rows = n
        return x, out

    def commit(self, rows: Sequence[int], lane: int = 0) -> None:
        """Settle rows of the last pass, in this order, as the next tokens of a lane."""
        at = ints(rows)
        if not within(at, 0, self._rows):
            raise CapacityError(f"cannot settle rows {at.tolist()}: the last pass had {self._rows}")
        if self.length(lane) + len(at) > self.shape.capacity:
            raise CapacityError(f"the cache is full: {self.shape.capacity} tokens")
        lib().mz_stack_commit(self.handle, lane, len(at), pointer(at))


def _check_layer(layer: NativeLayer, s: StackShape) -> None:
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
        check_shape(norm, (s.width,))
