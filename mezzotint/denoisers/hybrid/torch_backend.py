"""The hybrid's two networks in plain torch: the reference of the native kernels, and what runs where they do not."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mezzotint.denoisers.causal_network import Floats
from mezzotint.denoisers.draft_network import OTHERS, DrafterShape, TreeLimits, branches, chain
from mezzotint.denoisers.layers.kv_cache import KVCache
from mezzotint.denoisers.networks.drafter import Drafter, sees
from mezzotint.denoisers.networks.llama import Decoder
from mezzotint.errors import CapacityError, CheckpointError

MAX_ROWS = 64
"""Most rows of one pass: one bit each in a row's mask."""


class EagerDecoder:
    """A `CausalNetwork`; see `denoisers/causal_network.py`.

    Every lane has a pass of its own: torch's products depend on how many rows they have, and a text must not depend on
    its neighbours.
    """

    invariant = False

    def __init__(self, decoder: Decoder, capacity: int, lanes: int = 1) -> None:
        self.decoder = decoder.eval()
        self.device = decoder.embed.weight.device
        self.vocab, self.width = decoder.config.vocab, decoder.config.width
        self.capacity = min(capacity, decoder.config.max_positions)
        shape, weight = decoder.config, decoder.embed.weight
        # the rows of one pass lie behind the settled tokens, a whole tree of them even where one token has room
        cells = (shape.layers, 1, shape.kv_heads, self.capacity + MAX_ROWS, shape.head_dim)
        self._made = lambda: KVCache(cells, dtype=weight.dtype, device=weight.device)
        self.caches: list[KVCache | None] = [None] * lanes
        self._settled = [0] * lanes
        self._places: list[tuple[int, int]] = []
        """Lane and number within it of each row of the last pass."""

    def length(self, lane: int = 0) -> int:
        return self._settled[lane]

    def truncate(self, length: int, lane: int = 0) -> None:
        if length > self._settled[lane]:
            raise CapacityError(f"cannot keep {length} of {self._settled[lane]} tokens")
        self._cache(lane).truncate(length)
        self._settled[lane] = length

    def commit(self, rows: Sequence[int], lane: int = 0) -> None:
        settled = self._settled[lane]
        if settled + len(rows) > self.capacity:
            raise CapacityError(f"the cache is full: {self.capacity} tokens")
        places = [self._places[row] for row in rows]
        if any(whose != lane for whose, _ in places):
            raise CapacityError(f"cannot settle rows {list(rows)} in lane {lane}: they belong to another one")
        columns = torch.tensor([settled + at for _, at in places], device=self.device)
        cache = self._cache(lane)
        cache.keep(settled, columns)
        self._settled[lane] = cache.length

    @torch.inference_mode()
    def run(
        self,
        tokens: Sequence[int],
        positions: NDArray[Any],
        sees: NDArray[Any],
        lanes: NDArray[Any] | None = None,
        taps: Sequence[int] = (),
    ) -> tuple[Floats, Floats]:
        n = len(tokens)
        if not 0 < n <= MAX_ROWS:
            raise CapacityError(f"cannot run {n} rows in one pass: at most {MAX_ROWS}")
        whose = np.zeros(n, np.int64) if lanes is None else np.asarray(lanes, np.int64)
        seen, ids, places = unpacked(sees), np.asarray(tokens), np.asarray(positions, np.int64)
        hidden = np.empty((n, self.width), np.float32)
        tapped = np.empty((n, len(taps), self.width), np.float32)
        self._places = [(0, 0)] * n
        for lane in dict.fromkeys(whose.tolist()):
            rows = np.flatnonzero(whose == lane)
            hidden[rows], tapped[rows] = self._pass(lane, ids[rows], places[rows], seen[np.ix_(rows, rows)], taps)
            for at, row in enumerate(rows.tolist()):
                self._places[row] = (lane, at)
        return hidden, tapped

    @torch.inference_mode()
    def logits(self, hidden: Floats) -> Floats:
        weight = self.decoder.embed.weight
        x = torch.from_numpy(hidden).to(weight)
        return _numpy(self.decoder.head(self.decoder.norm(x)))

    def _cache(self, lane: int) -> KVCache:
        """The store of a lane, made when it is first used."""
        cache = self.caches[lane]
        if cache is None:
            cache = self.caches[lane] = self._made()
        return cache

    def _pass(
        self, lane: int, ids: NDArray[Any], positions: NDArray[Any], sees: NDArray[np.bool_], taps: Sequence[int]
    ) -> tuple[Floats, Floats]:
        """`run` of the rows of one lane; Bool[n, n] `sees`."""
        n, settled, cache = len(ids), self._settled[lane], self._cache(lane)
        cache.truncate(settled)
        attend = torch.ones(n, settled + n, dtype=torch.bool)
        attend[:, settled:] = torch.from_numpy(sees)
        layers = len(self.decoder.layers)
        out = self.decoder(
            torch.from_numpy(ids.astype(np.int64))[None].to(self.device),
            torch.from_numpy(positions).to(self.device),
            attend.to(self.device),
            cache,
            taps=(*taps, layers),
            head=False,
        )
        tapped = [_numpy(t[0]) for t in out.taps]
        hidden = tapped.pop()
        return hidden, np.stack(tapped, 1) if tapped else np.empty((n, 0, self.width), np.float32)


class EagerDrafter:
    """A `DraftNetwork` over a trained `Drafter`; see `denoisers/draft_network.py`.

    Context rows are run again from the window that still matters, which is simple and, at a few layers, cheap.
    """

    def __init__(self, drafter: Drafter) -> None:
        self.drafter = drafter.eval()
        self.shape = drafter.shape
        self.ids = drafter.ids.cpu().numpy()
        self._rows = torch.empty(0, self.shape.width, device=drafter.ids.device)
        self._length = 0
        self._following: list[int] = []

    def another(self) -> "EagerDrafter":
        return EagerDrafter(self.drafter)

    def length(self) -> int:
        return self._length

    def truncate(self, length: int) -> None:
        if length > self._length:
            raise CapacityError(f"cannot keep {length} of {self._length} context rows")
        self._rows = self._rows[:length]
        self._length = length
        del self._following[length:]

    @torch.inference_mode()
    def read(self, taps: Floats, following: Sequence[int], block: int = 0) -> tuple[Floats, Floats]:
        after = [int(token) for token in following]
        rows = self.drafter.context_rows(self._tensor(taps), torch.tensor(after, device=self._rows.device))
        self._rows = torch.cat([self._rows, rows])
        self._length = len(self._rows)
        self._following += after
        out = self._trunk([-1] * block)
        return _numpy(out[len(out) - block - 1]), _numpy(out[len(out) - block :])

    @torch.inference_mode()
    def look(self, known: Sequence[int]) -> Floats:
        return _numpy(self._trunk(known)[-len(known) :]) if known else np.empty((0, self.shape.width), np.float32)

    @torch.inference_mode()
    def advance(self, rows: Floats, previous: Sequence[int], state: Floats) -> Floats:
        tokens = torch.tensor(list(previous), device=self._rows.device)
        return _numpy(self.drafter.advance(self._tensor(rows), tokens, self._tensor(state)))

    @torch.inference_mode()
    def logits(self, state: Floats) -> Floats:
        return _numpy(self.drafter.logits(self._tensor(state)))

    @torch.inference_mode()
    def top(self, state: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
        met = np.array(list(dict.fromkeys(self._following)), np.int64)  # in the order of their first meeting
        others = met[~np.isin(met, self.ids)][-OTHERS:]
        given, strange = self._tensor(state), self.drafter.embedding[torch.from_numpy(others).to(self._rows.device)]
        logits = torch.cat([self.drafter.logits(given), F.linear(self.drafter.norm(given), strange)], -1)
        value, index = logits.log_softmax(-1).topk(k, -1)
        return np.concatenate([self.ids, others])[index.cpu().numpy()], _numpy(value)

    def follow(
        self, rows: Floats, previous: Sequence[int], state: Floats, k: int
    ) -> tuple[Floats, NDArray[np.int64], Floats]:
        after = self.advance(rows, previous, state)
        return after, *self.top(after, k)

    def chain(self, state: Floats, rows: Floats, decided: Sequence[int], gate: float = 0.0) -> Floats:
        return chain(self, state, rows, decided, gate)

    def branches(self, state: Floats, rows: Floats, growth: TreeLimits) -> tuple[list[int], list[int], list[float]]:
        return branches(self, state, rows, growth)

    def _trunk(self, known: Sequence[int]) -> Tensor:
        """Context rows that any of the last rows can see through the layers, then block rows; Float[R, width]."""
        first = max(0, self._length - self.shape.window * self.shape.layers)
        context = self._rows[first:]
        tokens = torch.tensor([max(k, 0) for k in known], dtype=torch.long, device=context.device)
        decided = torch.tensor([k >= 0 for k in known], dtype=torch.bool, device=context.device)
        rows = torch.cat([context, self.drafter.block_rows(tokens, decided)])
        positions = torch.arange(first, first + len(rows), device=rows.device)[None]
        anchors = positions.clamp_max(self._length - 1)
        mask = sees(positions, anchors, len(context), self.shape.window)
        return self.drafter.trunk(rows[None], positions, mask)[0]

    def _tensor(self, x: Floats) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).to(self._rows)


def unpacked(sees: NDArray[Any]) -> NDArray[np.bool_]:
    """Bit masks UInt64[n] -> the attention mask Bool[n, n]."""
    n = len(sees)
    return (sees[:, None] >> np.arange(n, dtype=np.uint64)) & np.uint64(1) == 1


def _numpy(x: Tensor) -> Floats:
    return x.float().cpu().numpy()


def restored(shape: DrafterShape, arrays: dict[str, NDArray[Any]], embedding: Tensor, dropout: float = 0.0) -> Drafter:
    """The drafter as a module, on the causal network's embedding Float[V, width]; `dropout` is for training on.

    Raises:
        CheckpointError: the adapter is another model's, or its arrays do not fit its sizes.
    """
    if embedding.shape[1] != shape.width or not 0 <= arrays["ids"].min() <= arrays["ids"].max() < len(embedding):
        raise CheckpointError("the adapter belongs to another model: its width or its ids do not fit")
    ids = torch.from_numpy(arrays["ids"].astype(np.int64))
    drafter = Drafter(shape, embedding, torch.ones(shape.width), ids, dropout)
    state = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in arrays.items() if name != "ids"}
    try:
        drafter.load_state_dict(state | {"ids": ids})
    except RuntimeError as error:
        raise CheckpointError(
            f"the adapter does not fit its own sizes: {str(error).splitlines()[-1].strip()}"
        ) from error
    return drafter
