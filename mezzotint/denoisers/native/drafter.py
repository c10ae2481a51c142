"""The drafter of `denoisers/drafter.py` on the native kernels: the same rows and states, eight-bit weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mezzotint.denoisers.causal import Floats
from mezzotint.denoisers.drafting import DrafterShape
from mezzotint.denoisers.native.binding import max_rows
from mezzotint.denoisers.native.decoder import NativeDecoder, alternated
from mezzotint.denoisers.native.runtime import Linear, RecurrentHead
from mezzotint.denoisers.native.stack import Layer, Shape, Stack


class NativeDrafter:
    """Drafts on top of a `NativeDecoder`; see `denoisers/drafting.py` for the calls.

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
        self.embedding, self.pool, self.eps = network.embedding, network.pool, s.eps
        self.ids = np.asarray(weights["ids"], np.int64)
        self.place = np.full(network.vocab, -1, np.int64)
        self.place[self.ids] = np.arange(len(self.ids))
        f = {name: np.asarray(value, np.float32) for name, value in weights.items() if name != "ids"}
        tap_norm = np.concatenate([f[f"tap_norms.{i}.weight"] for i in range(len(s.taps))])
        self.fuse_taps = Linear.from_float(f["fuse_taps.weight"] * tap_norm, bits)
        self.fuse_token = Linear.from_float(f["fuse_token.weight"], bits)
        # a masked row is the same whatever is around it, so it is made once
        self.blank = f["blank"]
        self.masked_row = f["blank"] + self.fuse_token.apply(self.pool, f["mask"][None])[0]
        norm = f["norm.weight"]
        mix_in = Linear.from_float(f["mix_in.weight"], bits)
        mix_out = Linear.from_float(f["mix_out.weight"], bits)
        self.output = Linear.from_float(self.embedding.rows(self.ids.tolist()) * norm, bits)
        self.head = RecurrentHead((mix_in, mix_out, self.output, self.embedding), norm, s.eps, self.pool)
        sizes = Shape(
            s.width, s.hidden, s.layers, s.heads, s.kv_heads, s.head_dim, network.capacity, 1, s.window, s.eps, s.theta
        )
        self.stack = Stack(sizes, [_layer(f, f"layers.{i}.", bits) for i in range(s.layers)], self.pool)

    def length(self) -> int:
        return self.stack.length()

    def truncate(self, length: int) -> None:
        self.stack.truncate(length)

    def read(self, taps: Floats, following: Sequence[int], block: int = 0) -> tuple[Floats, Floats]:
        context = self._context_rows(taps, following)
        while len(context) + block > max_rows():
            # the last context row stays for the pass with the block: its state is the answer
            part = min(max_rows(), len(context) - 1)
            self._run(context[:part], 0)
            context = context[part:]
        out = self._run(np.concatenate([context, np.repeat(self.masked_row[None], block, 0)]), block)
        return out[len(context) - 1], out[len(context) :]

    def look(self, known: Sequence[int]) -> Floats:
        rows = np.repeat(self.masked_row[None], len(known), 0)
        decided = [i for i, token in enumerate(known) if token >= 0]
        if decided:
            part = self._token_part([known[i] for i in decided])
            rows[decided] = self.blank + self.fuse_token.apply(self.pool, part)
        return self._run(rows, len(known)) if len(known) else rows

    def advance(self, rows: Floats, previous: Sequence[int], state: Floats) -> Floats:
        return self.head.follow(rows, previous, state, 1)[0]

    def logits(self, state: Floats) -> Floats:
        return self.output.apply(self.pool, _normed(state, self.eps))

    def top(self, state: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
        _, index, logp = self.head.follow(None, (), state, k)
        return self.ids[index], logp

    def follow(
        self, rows: Floats, previous: Sequence[int], state: Floats, k: int
    ) -> tuple[Floats, NDArray[np.int64], Floats]:
        after, index, logp = self.head.follow(rows, previous, state, k)
        return after, self.ids[index], logp

    def _token_part(self, tokens: Sequence[int]) -> Floats:
        return _normed(self.embedding.rows(tokens), self.eps)

    def _context_rows(self, taps: Floats, following: Sequence[int]) -> Floats:
        normed = _normed(taps, self.eps).reshape(len(taps), -1)
        return self.fuse_taps.apply(self.pool, normed) + self.fuse_token.apply(self.pool, self._token_part(following))

    def _run(self, rows: Floats, block: int) -> Floats:
        """Context rows, then `block` block rows; the context rows are settled."""
        n, window = len(rows) - block, self.shape.window
        own = (1 << len(rows)) - (1 << n)
        everything = own | (1 << n) - 1
        masks = [(1 << i + 1) - 1 for i in range(n)] + [everything] * block
        # the stack's window is about settled rows; context rows of this very pass may be too far away as well
        far = [(1 << max(i + 1 - window, 0)) - 1 & ~own for i in range(len(rows))]
        sees = np.array([m & ~f for m, f in zip(masks, far, strict=True)], np.uint64)
        positions = self.length() + np.arange(len(rows))
        out, _ = self.stack.run(rows, positions, sees, np.zeros(len(rows), np.int32))
        self.stack.commit(range(n))
        return out


def _normed(x: Floats, eps: float) -> Floats:
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True, dtype=np.float32) + np.float32(eps))


def _layer(f: Mapping[str, Floats], at: str, bits: int) -> Layer:
    return Layer(
        qkv=Linear.from_float(f[at + "qkv.weight"], bits),
        out=Linear.from_float(f[at + "out.weight"], bits),
        gate_up=Linear.from_float(alternated([f[at + "gate.weight"], f[at + "up.weight"]]), bits),
        down=Linear.from_float(f[at + "down.weight"], bits),
        attention_norm=f[at + "attention_norm.weight"],
        mlp_norm=f[at + "mlp_norm.weight"],
    )
