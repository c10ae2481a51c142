"""The float32 kernels as Python objects: a matrix laid out for them, and a stack of layers.

Tensors go in and out as contiguous float32; shapes are checked here, because past this file nothing does.
"""

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from ctypes import c_float, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from mezzotint.denoisers.native.build import DENSE, NativeUnavailable, library
from mezzotint.errors import CapacityError
from mezzotint.odds import use

ENOUGH = 1 << 23
"""Multiplications that are worth more than one thread: a tenth of a millisecond."""


@cache
def lib() -> ctypes.CDLL:
    """The kernels, built if need be.

    Raises:
        NativeUnavailable: they cannot be built or loaded here.
    """
    path = library(DENSE)
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"the native kernels cannot be loaded: {error}") from error
    for name in ("pool_new", "matrix_new"):
        getattr(loaded, f"mz_{name}").restype = c_void_p
    use(best)
    return loaded


def pool(work: int) -> c_void_p:
    """Threads for so many multiplications: torch's number of them, or one where waking the others would cost more."""
    threads = 1 if work < ENOUGH else torch.get_num_threads()
    if made := _pools.get(threads):
        return made
    with _making:
        # another thread may have been here meanwhile
        return _pools.get(threads) or _pools.setdefault(threads, c_void_p(lib().mz_pool_new(threads)))


_pools: dict[int, c_void_p] = {}
_making = threading.Lock()


def _forked() -> None:
    """Threads do not follow a process into its forks, and whoever held the lock is not there either."""
    global _making
    _pools.clear()
    _making = threading.Lock()


os.register_at_fork(after_in_child=_forked)


def best(logits: Tensor) -> tuple[Tensor, Tensor]:
    """As `odds.best`, Float[..., V] -> Long[...] and Float[...], in one pass over float32 logits on a CPU."""
    logits = logits.contiguous()
    tokens, chance = torch.empty(logits.shape[:-1], dtype=torch.long), logits.new_empty(logits.shape[:-1])
    addresses = [c_void_p(x.data_ptr()) for x in (logits, tokens, chance)]
    lib().mz_best(pool(8 * logits.numel()), tokens.numel(), logits.shape[-1], *addresses)
    return tokens, chance


class Matrix:
    """Float[outputs, inputs], copied into the kernels' order."""

    def __init__(self, weight: Tensor) -> None:
        self.outputs, self.inputs = weight.shape
        if self.inputs % 8:
            raise CapacityError(f"cannot lay out a matrix of {self.inputs} inputs: a multiple of 8 is needed")
        plain = weight.detach().contiguous()
        made = lib().mz_matrix_new(self.outputs, self.inputs, c_void_p(plain.data_ptr()))
        if not made:
            raise CapacityError(f"not enough memory for a {self.outputs} x {self.inputs} matrix")
        self.handle = c_void_p(made)
        # the end of the process frees it as well, and other threads may still be reading then
        weakref.finalize(self, lib().mz_matrix_free, self.handle).atexit = False

    def apply(self, x: Tensor) -> Tensor:
        """Float[..., outputs] of Float[..., inputs].

        Raises:
            CapacityError: another dtype than float32, or another width.
        """
        if x.dtype != torch.float32 or x.shape[-1] != self.inputs:
            raise CapacityError(f"cannot multiply {x.dtype} of width {x.shape[-1]}: float32 of {self.inputs} is needed")
        rows, x = x.numel() // self.inputs, x.contiguous()
        out = torch.empty(*x.shape[:-1], self.outputs)
        threads = pool(out.numel() * self.inputs)
        lib().mz_matrix_apply(threads, self.handle, rows, c_void_p(x.data_ptr()), c_void_p(out.data_ptr()))
        return out


@dataclass(frozen=True)
class DenseLayer:
    """The parameters of a layer; None where the network has none."""

    norm1: Tensor
    norm2: Tensor
    q: Tensor
    kv: Tensor
    """Keys above values."""
    out: Tensor
    gate_up: Tensor
    """Gates above what they gate."""
    down: Tensor
    q_bias: Tensor | None = None
    kv_bias: Tensor | None = None
    q_norm: Tensor | None = None
    k_norm: Tensor | None = None


@dataclass(frozen=True)
class DenseShape:
    """Numbers of a stack."""

    width: int
    inner: int
    heads: int
    kv_heads: int
    dim: int
    turned: int
    """Leading components of a head that turn with the position."""
    eps: float

    @property
    def fits(self) -> bool:
        """Whether the kernels can run it: everything but the vocabulary in eights."""
        return not any(size % 8 for size in (self.width, self.inner, self.dim, self.turned))


class _Layer(ctypes.Structure):
    _fields_ = [
        (name, c_void_p)
        for name in ("norm1", "norm2", "q", "kv", "out", "gate_up", "down", "q_bias", "kv_bias", "q_norm", "k_norm")
    ]


class _Shape(ctypes.Structure):
    _fields_ = [(name, c_int) for name in ("layers", "width", "inner", "heads", "kv_heads", "dim", "turned")] + [
        ("eps", c_float)
    ]


class _Call(ctypes.Structure):
    _fields_ = [
        *((name, c_int) for name in ("batch", "count", "start", "capacity", "wanted", "mask_stride")),
        *((name, c_void_p) for name in ("x", "cos", "sin", "positions", "rows", "keys", "values")),
        ("layer_stride", c_size_t),
        ("mask", c_void_p),
        ("out", c_void_p),
    ]


@dataclass(frozen=True)
class DenseStore:
    """Room for keys and values, Float[layers, B, kv_heads, capacity, dim], of which `length` columns are filled."""

    keys: Tensor
    values: Tensor
    length: int


class DenseStack:
    """Layers and a last norm."""

    def __init__(
        self, shape: DenseShape, layers: list[DenseLayer], norm: Tensor, angles: Callable[[Tensor], Tensor]
    ) -> None:
        """angles: Long[n] positions -> Float[n, turned / 2]."""
        self.shape, self.angles = shape, angles
        self._kept: list[Tensor | Matrix] = []
        self._numbers = 0
        records = [self._record(layer) for layer in layers]
        self._layers = (_Layer * len(records))(*records)
        self._norm = c_void_p(self._plain(norm))
        self._shape = _Shape(
            len(layers), shape.width, shape.inner, shape.heads, shape.kv_heads, shape.dim, shape.turned, shape.eps
        )
        self._turns = torch.empty(2, 0, shape.turned // 2)

    def run(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, store: DenseStore | None, wanted: Tensor | None
    ) -> Tensor:
        """Float[B, W, width] after the last norm.

        Args:
            x: Float[B, N, width], embeddings; overwritten.
            positions: Long[N] or [B, N].
            mask: Bool[1 or B, 1, 1 or N, S + N], true where a query sees a key; None is everywhere.
            store: its S columns are read and the new N are written behind them; its length is the caller's to move.
            wanted: Long[B, W]: columns whose answers are asked for; None is all N.
        """
        shape, (batch, count, _) = self.shape, x.shape
        start = 0 if store is None else store.length
        self._check(x, mask, store)
        self._check_columns(positions, wanted, batch, count)
        positions = positions.expand(batch, count).contiguous()
        cos, sin = self._turned(positions)
        width = count if wanted is None else wanted.shape[1]
        out = x.new_empty(batch, width, shape.width)
        if store is None:
            room = x.new_empty(2, 1, batch, shape.kv_heads, count, shape.dim)
            store = DenseStore(room[0], room[1], 0)
        keys, values = store.keys, store.values
        rows = None if wanted is None else wanted.contiguous()
        seen = None if mask is None else mask.expand(-1, -1, count, -1).contiguous()
        call = _Call(
            batch, count, start, keys.shape[3], -1 if wanted is None else width,
            0 if seen is None or seen.shape[0] == 1 else count * (start + count),
            x.data_ptr(), cos.data_ptr(), sin.data_ptr(), positions.data_ptr(), _address(rows),
            keys.data_ptr(), values.data_ptr(), keys.stride(0) if len(keys) > 1 else 0, _address(seen), out.data_ptr(),
        )  # fmt: skip
        threads = pool(batch * count * self._numbers)
        lib().mz_dense_run(threads, ctypes.byref(self._shape), self._layers, self._norm, ctypes.byref(call))
        return out

    def _record(self, layer: DenseLayer) -> _Layer:
        matrices = (layer.q, layer.kv, layer.out, layer.gate_up, layer.down)
        handles = [self._matrix(weight) for weight in matrices]
        vectors = (layer.q_bias, layer.kv_bias, layer.q_norm, layer.k_norm)
        return _Layer(self._plain(layer.norm1), self._plain(layer.norm2), *handles, *map(self._plain, vectors))

    def _matrix(self, weight: Tensor) -> int | None:
        self._numbers += weight.numel()
        self._kept.append(made := Matrix(weight))
        return made.handle.value

    def _plain(self, x: Tensor | None) -> int | None:
        if x is None:
            return None
        self._kept.append(copy := x.detach().clone().contiguous())
        return copy.data_ptr()

    def _turned(self, positions: Tensor) -> Tensor:
        """Float[2, n, turned / 2]: cosines and sines of positions 0 to n - 1, all of these among them."""
        most, turns = int(positions.max()) + 1, self._turns
        if most > turns.shape[1]:
            angle = self.angles(torch.arange(max(most, 2 * turns.shape[1])))
            # another thread may put a shorter table there meanwhile: this pass keeps its own
            turns = self._turns = torch.stack([angle.cos(), angle.sin()])
        return turns

    def _check(self, x: Tensor, mask: Tensor | None, store: DenseStore | None) -> None:
        shape, (batch, count, width) = self.shape, x.shape
        start = 0 if store is None else store.length
        if x.dtype != torch.float32 or width != shape.width or not x.is_contiguous():
            raise CapacityError(
                f"cannot read {x.dtype} of width {width}: contiguous float32 of {shape.width} is needed"
            )
        if store is not None:
            room = (len(self._layers), batch, shape.kv_heads, store.keys.shape[-2], shape.dim)
            for each in (store.keys, store.values):
                if each.dtype != torch.float32 or each.shape != room or not all(part.is_contiguous() for part in each):
                    raise CapacityError(
                        f"cannot keep columns in {each.dtype} of shape {list(each.shape)}: contiguous float32 of "
                        f"{list(room)} is needed"
                    )
            if start < 0 or start + count > store.keys.shape[3] or store.keys.stride(0) != store.values.stride(0):
                raise CapacityError(
                    f"cannot keep {count} columns of {batch} rows behind {start}: the store is too small"
                )
        if mask is not None:
            fits = [(1, batch), (1,), (1, count), (start + count,)]
            if mask.dtype != torch.bool or mask.dim() != 4 or not all(map(tuple.__contains__, fits, mask.shape)):
                raise CapacityError(f"cannot use a mask of shape {list(mask.shape)} over {start + count} columns")

    @staticmethod
    def _check_columns(positions: Tensor, wanted: Tensor | None, batch: int, count: int) -> None:
        if positions.dtype != torch.long or positions.shape not in ((count,), (1, count), (batch, count)):
            raise CapacityError(
                f"cannot place {batch} rows of {count} columns at {positions.dtype} of shape {list(positions.shape)}"
            )
        if positions.numel() and int(positions.min()) < 0:
            raise CapacityError(f"cannot place a column at {int(positions.min())}: positions count from 0")
        if wanted is None:
            return
        if wanted.dtype != torch.long or wanted.dim() != 2 or len(wanted) != batch:
            raise CapacityError(
                f"cannot answer {wanted.dtype} of shape {list(wanted.shape)} for {batch} rows: name columns of each"
            )
        if wanted.numel() and not 0 <= int(wanted.min()) <= int(wanted.max()) < count:
            raise CapacityError(f"cannot answer columns {int(wanted.min())} to {int(wanted.max())} of {count}")


def _address(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()
