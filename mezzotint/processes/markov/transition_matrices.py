"""One-step matrices and rates of D3PM's chains (2107.03006, App. A.2), for ids that have an order or a neighbourhood.

All return Float64 with rows that sum to one (rates: to zero).  Two published codes differ in details; both are here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mezzotint.errors import ConfigError
from mezzotint.processes.markov.chain import ListedChain, even, stochastic


def uniform(vocab: int, beta: Tensor) -> Tensor:
    """(1 - beta) I + beta / V: Float64[T, V, V] from Float64[T]."""
    return _moved(even(vocab).expand(vocab, vocab), beta)


def band(vocab: int, beta: Tensor, width: int) -> Tensor:
    """With chance beta an even draw among the `width` ids around (text code); Float64[T, V, V].

    Every *target* shares its chance among its neighbours, so at the borders rows do not sum to one exactly; an even
    width reaches from -width / 2 to width / 2 - 1.
    """
    place = torch.arange(vocab)
    offset = place[:, None] - place[None]  # of the next id, in rows, from the current one, in columns
    low, high = -(width // 2), (width - 1) // 2
    near = ((offset >= low) & (offset <= high)).double()
    return _moved((near / near.sum(0, keepdim=True)).mT, beta)


def bounded(vocab: int, beta: Tensor, reach: int | None = None) -> Tensor:
    """beta / V to every id at most `reach` away, the rest stays (image code); Float64[T, V, V]."""
    place = torch.arange(vocab)
    distance = (place[:, None] - place[None]).abs()
    near = (distance > 0) & (distance <= (vocab if reach is None else reach))
    return _with_rest(beta.double()[:, None, None] * near / vocab)


def gaussian(vocab: int, beta: Tensor, spread: float, reach: int | None = None) -> Tensor:
    """Discretised Gaussian, Float64[T, V, V]: exp(-(2 d spread / (V - 1))^2 / beta) for ids d apart, App. A.2.3.

    Normalised over all offsets -(V - 1) .. V - 1, so every row has the same shape and the matrix is symmetric.

    Args:
        vocab: V.
        beta: Float64[T].
        spread: distance of neighbours before the factor 2 / (V - 1): 1 in the paper, V / (V - 1) in the text code,
            255 / (V - 1) in the image code.
        reach: only ids at most so far apart.
    """
    places = torch.arange(vocab, dtype=torch.float64) * spread * 2 / (vocab - 1)
    offsets = torch.cat([places.flip(0), places[1:]])
    table = torch.softmax(-offsets.square() / beta.double()[:, None], -1)[:, vocab - 1 :]
    place = torch.arange(vocab)
    distance = (place[:, None] - place[None]).abs()
    near = (distance > 0) & (distance <= (vocab if reach is None else reach))
    return _with_rest(table[:, distance] * near)


def neighbours(embeddings: Tensor, k: int) -> Tensor:
    """Rates of moving to embedding neighbours, Float64[V, V] (App. A.2.4): A = (G + G^T) / (2 k), R = A - diag.

    G marks the k nearest of each row of Float[V, E] after normalisation, the id itself left out.  `torch.matrix_exp` of
    a multiple of it is a doubly stochastic matrix.

    Raises:
        ConfigError: fewer than k other ids.
    """
    return rates(nearest(embeddings, k).tolist())


def nearest(embeddings: Tensor, k: int) -> Tensor:
    """Long[V, k]: the nearest other rows of each row of Float[V, E], after normalisation.

    Raises:
        ConfigError: fewer than k other ids.
    """
    vocab = embeddings.shape[0]
    if not 0 < k < vocab:
        raise ConfigError(f"cannot find {k} neighbours among {vocab} ids: take 1 to {vocab - 1}")
    places = torch.nn.functional.normalize(embeddings.double(), dim=-1)
    # as published: the nearest is taken to be the id itself, also where another one has the same embedding
    return torch.cdist(places, places).topk(k + 1, largest=False).indices[:, 1:]


def rates(near: Sequence[Sequence[int]]) -> Tensor:
    """The rates of `neighbours`, Float64[V, V], from the neighbours of every id.

    Ids without any, and near none, stay what they are.
    """
    vocab, k = len(near), max(map(len, near))
    graph = torch.zeros(vocab, vocab, dtype=torch.float64)
    for place, others in enumerate(near):
        graph[place, list(others)] = 1
    moves = (graph + graph.mT) / (2 * k)
    return moves - moves.sum(0).diag()


def power(rates: Tensor, amount: float) -> Tensor:
    """The stochastic matrix exp(amount R), Float64[V, V]."""
    return stochastic(torch.matrix_exp(amount * rates.double()))


def without(matrices: Tensor, mask_id: int) -> ListedChain:
    """The chain of matrices Float[T, V - 1, V - 1], with [MASK] put in as an id that nothing reaches or leaves."""
    steps, rest = matrices.shape[0], matrices.shape[-1]
    others = torch.arange(rest + 1) != mask_id
    out = torch.zeros(steps, rest + 1, rest + 1, dtype=torch.float64)
    out[:, mask_id, mask_id] = 1
    out[:, others[:, None] & others] = matrices.reshape(steps, -1)
    return ListedChain(out, even(rest + 1, but=mask_id))


def _moved(target: Tensor, beta: Tensor) -> Tensor:
    beta = beta.double()[:, None, None]
    return (1 - beta) * torch.eye(len(target), dtype=torch.float64) + beta * target


def _with_rest(off: Tensor) -> Tensor:
    """Off-diagonal entries Float64[T, V, V], and on the diagonal what is left."""
    return off + (1 - off.sum(-1)).diag_embed()
