"""The drafter of `denoisers/networks/drafter.py` on the native kernels: the same rows and states, eight-bit weights."""

import ctypes
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mezzotint.denoisers.causal_network import Floats
from mezzotint.denoisers.draft_network import OTHERS, DrafterShape, TreeLimits
from mezzotint.denoisers.native.binding import check_shape, ints, lib, max_rows, pointer, within
from mezzotint.denoisers.native.decoder import NativeDecoder, alternated
from mezzotint.denoisers.native.runtime import NativeLinear
from mezzotint.denoisers.native.stack import NativeLayer, NativeStack, StackShape
from mezzotint.errors import CapacityError


class NativeDrafter:
    """Drafts on top of a `NativeDecoder`; see `denoisers/draft_network.py` for the calls.

    Args:
        shape: sizes.
        weights: arrays by the names of `Drafter.state_dict()`.
        network: the causal network, whose embedding and threads are shared.
        bits: of its weights, 8 or 4; drafts get a little worse with 4, and cheaper.
    """

    def __init__(
        self, shape: DrafterShape, weights: Mapping[str, NDArray[Any]], network: NativeDecoder, bits: int = 8
    ) -> None:
        s = self.shape = shape
        self.embedding, self.pool, self.vocab = network.embedding, network.pool, network.vocab
        self.ids = np.asarray(weights["ids"], np.int64)
        f = {name: np.asarray(value, np.float32) for name, value in weights.items() if name != "ids"}
        tap_norm = np.concatenate([f[f"tap_norms.{i}.weight"] for i in range(len(s.taps))])
        fuse = np.concatenate([f["fuse_taps.weight"] * tap_norm, f["fuse_token.weight"]], 1)
        output = self.embedding.rows(self.ids.tolist()) * f["norm.weight"]
        made = (f["mix_in.weight"], f["mix_out.weight"], output, fuse, f["fuse_token.weight"])
        mix_in, mix_out, self.output, fuse, fuse_token = (NativeLinear.from_float(w, bits) for w in made)
        matrices = (mix_in, mix_out, self.output, self.embedding, fuse, fuse_token)
        sizes = StackShape(
            s.width, s.hidden, s.layers, s.heads, s.kv_heads, s.head_dim, network.capacity, 1, s.window, s.eps, s.theta
        )
        self._layers = [_layer(f, f"layers.{i}.", bits) for i in range(s.layers)]
        masked = f["blank"] + fuse_token.apply(self.pool, f["mask"][None])[0]
        # what the kernels point at must live as long as they do
        self._kept = matrices, f["norm.weight"], f["blank"], masked, ints(self.ids)
        self._open(sizes)

    def _open(self, sizes: StackShape) -> None:
        """A store of this drafter's own."""
        matrices, *vectors = self._kept
        self.stack = NativeStack(sizes, self._layers, self.pool)
        handles = (ctypes.c_void_p * len(matrices))(*[m.handle for m in matrices])
        pointers, eps = [pointer(x) for x in vectors], ctypes.c_float(self.shape.eps)
        handle = lib().mz_drafter_new(handles, *pointers, self.stack.handle, len(self.shape.taps), eps, OTHERS)
        self.handle = ctypes.c_void_p(handle)

    def another(self) -> "NativeDrafter":
        made = copy(self)
        # the copy must not free the handle of the original if opening fails
        made.__dict__.pop("handle")
        made._open(self.stack.shape)
        return made

    def __del__(self) -> None:
        if handle := self.__dict__.pop("handle", None):
            lib().mz_drafter_free(handle)

    def length(self) -> int:
        return self.stack.length()

    def truncate(self, length: int) -> None:
        if not 0 <= length <= self.length():
            raise CapacityError(f"cannot keep {length} of {self.length()} context rows")
        lib().mz_drafter_truncate(self.handle, length)

    def read(self, taps: Floats, following: Sequence[int], block: int = 0) -> tuple[Floats, Floats]:
        taps, after = np.ascontiguousarray(taps, np.float32), self._tokens(following)
        check_shape(taps, (len(after), len(self.shape.taps), self.shape.width))
        at = 0
        while len(after) - at + block > max_rows():
            # the last context row stays for the pass with the block: its state is the answer
            part = min(max_rows(), len(after) - at - 1)
            self._read(taps[at : at + part], after[at : at + part], np.empty(0, np.int32))
            at += part
        out = self._read(taps[at:], after[at:], np.full(block, -1, np.int32))
        return out[len(after) - at - 1], out[len(after) - at :]

    def look(self, known: Sequence[int]) -> Floats:
        nothing = np.empty((0, len(self.shape.taps), self.shape.width), np.float32)
        if not len(known):
            return nothing[:, 0]
        return self._read(nothing, np.empty(0, np.int32), self._tokens(known, open_too=True))

    def advance(self, rows: Floats, previous: Sequence[int], state: Floats) -> Floats:
        return self._follow(rows, previous, state, 1)[0]

    def logits(self, state: Floats) -> Floats:
        return np.concatenate([self.chain(one, state[:0], []) for one in state])

    def top(self, state: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
        return self._follow(None, (), state, k)[1:]

    def follow(
        self, rows: Floats, previous: Sequence[int], state: Floats, k: int
    ) -> tuple[Floats, NDArray[np.int64], Floats]:
        return self._follow(rows, previous, state, k)

    def chain(self, state: Floats, rows: Floats, decided: Sequence[int], gate: float = 0.0) -> Floats:
        state, rows = self._states(state[None])[0], self._states(rows)
        known = self._tokens(decided, open_too=True)
        if len(known) != len(rows):
            raise CapacityError(f"cannot draft {len(rows)} columns after {len(known)} tokens")
        out = np.empty((len(rows) + 1, len(self.ids)), np.float32)
        arrays = map(pointer, (state, rows, known, out))
        made = lib().mz_drafter_chain(self.pool.handle, self.handle, len(rows), *arrays, ctypes.c_float(gate))
        return out[:made]

    def branches(self, state: Floats, rows: Floats, growth: TreeLimits) -> tuple[list[int], list[int], list[float]]:
        state, rows, most = self._states(state[None])[0], self._states(rows), growth.nodes * (len(rows) + 1)
        if not 0 < growth.fan <= len(self.ids) or not 0 < growth.beam <= max_rows():
            raise CapacityError(f"cannot grow {growth.beam} branches of {growth.fan} candidates each")
        tokens, parents, scores = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.float32)
        made = lib().mz_drafter_branches(
            self.pool.handle,
            self.handle,
            len(rows),
            *map(pointer, (state, rows)),
            growth.fan,
            growth.beam,
            growth.nodes,
            ctypes.c_float(growth.gate),
            *map(pointer, (tokens, parents, scores)),
        )
        return tokens[:made].tolist(), parents[:made].tolist(), scores[:made].tolist()

    def _read(self, taps: Floats, following: NDArray[np.int32], known: NDArray[np.int32]) -> Floats:
        n, block = len(following), len(known)
        if n + block > max_rows() or self.length() + n + block > self.stack.shape.capacity + max_rows():
            raise CapacityError(f"cannot draft from {n} and {block} rows after {self.length()}: the cache is full")
        if self.length() + n > self.stack.shape.capacity:
            raise CapacityError(f"the cache is full: {self.stack.shape.capacity} tokens")
        out = np.empty((n + block, self.shape.width), np.float32)
        lib().mz_drafter_read(
            self.pool.handle, self.handle, n, pointer(taps), pointer(following), block, pointer(known), pointer(out)
        )
        return out

    def _follow(
        self, rows: Floats | None, previous: Sequence[int], state: Floats, k: int
    ) -> tuple[Floats, NDArray[np.int64], Floats]:
        """States Float[m, width], advanced where there are `rows`; tokens Int[m, k], log-probabilities Float[m, k]."""
        state = self._states(np.array(state, np.float32))
        m, before = len(state), None
        if not 0 < m <= max_rows() or not 0 < k <= len(self.ids):
            raise CapacityError(f"cannot draft {k} tokens each from {m} states")
        if rows is not None:
            rows, before = self._states(rows), self._tokens(previous)
            if len(rows) != m or len(before) != m:
                raise CapacityError(f"{len(rows)} rows and {len(before)} tokens do not fit {m} states")
        tokens, value = np.empty((m, k), np.int32), np.empty((m, k), np.float32)
        arrays = [pointer(x) for x in (rows, before, state)]
        lib().mz_drafter_follow(self.pool.handle, self.handle, m, *arrays, k, pointer(tokens), pointer(value))
        return state, tokens.astype(np.int64), value

    def _states(self, x: Floats) -> Floats:
        x = np.ascontiguousarray(x, np.float32)
        check_shape(x, (len(x), self.shape.width))
        return x

    def _tokens(self, tokens: Sequence[int] | NDArray[Any], *, open_too: bool = False) -> NDArray[np.int32]:
        out = ints(tokens)
        if not within(out, -open_too, self.vocab):
            raise CapacityError(f"a token outside the vocabulary of {self.vocab} was drafted from")
        return out


def _layer(f: Mapping[str, Floats], at: str, bits: int) -> NativeLayer:
    return NativeLayer(
        qkv=NativeLinear.from_float(f[at + "qkv.weight"], bits),
        out=NativeLinear.from_float(f[at + "out.weight"], bits),
        gate_up=NativeLinear.from_float(alternated([f[at + "gate.weight"], f[at + "up.weight"]]), bits),
        down=NativeLinear.from_float(f[at + "down.weight"], bits),
        attention_norm=f[at + "attention_norm.weight"],
        mlp_norm=f[at + "mlp_norm.weight"],
    )
