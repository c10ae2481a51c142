"""How likely published diffusion models find a text: the bound of masked diffusion, or the causal chain."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.denoisers.published.attention_patterns import CausalPattern, FullPattern
from mezzotint.denoisers.published.open import AlignedNetwork, PublishedModel, TrainableNetwork
from mezzotint.errors import ConfigError, RequestError
from mezzotint.layouts import Full, Layout, NoisyThenClean
from mezzotint.models.base import Bound
from mezzotint.objectives.likelihood import Likelihood
from mezzotint.processes.absorbing import Absorbing
from mezzotint.rng import Rng
from mezzotint.schedules import Linear

ROWS = 8
"""Texts of one pass."""


@torch.inference_mode()
def published_bound(published: PublishedModel, ids: Sequence[int], draws: int, seed: int) -> Bound:
    """Nats of a text: of all its columns but the first where logits stand one column early.

    Masked models give the estimate of LLaDA (2502.09992, sec. 2.4): a fixed number of columns is hidden per draw; with
    blocks each is scored behind its clean past (BD3LM, 2503.09573, eq. 8).  Causal ones give their exact chain.

    Raises:
        ConfigError: a model without such a bound.
        RequestError: a text with nothing to score, or a longer one than the network reads.
    """
    network, name = published.network, published.name
    if not isinstance(network, AlignedNetwork) or published.mask_id is None:
        raise ConfigError(f"{name} denoises uniform noise behind an encoder: no bound of a text is known for it")
    if len(ids) > published.context:
        raise RequestError(f"the text has {len(ids)} tokens and {name} reads at most {published.context}")
    row = torch.tensor([list(ids)], device=next(network.parameters()).device)
    if isinstance(published.attention, CausalPattern):
        return _chain(published, network, row)
    layout: Layout = Full()
    if published.block is not None:
        if network.lookback:
            raise ConfigError(f"{name} predicts a block's first column from the block before it: no bound is known")
        row = torch.nn.functional.pad(row, (0, -row.shape[1] % published.block), value=_pad(published))
        layout = NoisyThenClean(published.block)
    elif not isinstance(published.attention, FullPattern):
        raise ConfigError(f"no bound of a text is known for {name}, whose columns do not all see each other")
    target = torch.arange(row.shape[1], device=row.device)[None] < len(ids)
    target[:, : network.lookback] = False
    if not bool(target.any()):
        raise RequestError("there is nothing to score: give a text of at least one token")
    vocab = published.vocab
    never = torch.arange(vocab, device=row.device) == published.mask_id
    predict = partial(_without, never)
    process = Absorbing(vocab, published.mask_id, Linear())
    estimate = Likelihood(process, draws, rows=ROWS, layout=layout, predict=predict)
    batch = Batch(row, target)
    each = estimate.each(TrainableNetwork(network), batch, estimate.masks(batch, Rng(seed)))[0]
    error = float(each.std() / math.sqrt(len(each))) if len(each) > 1 else math.nan
    return Bound(-float(each.mean()), error, int(target.sum()), exact=False)


def _chain(published: PublishedModel, network: AlignedNetwork, row: Tensor) -> Bound:
    """The exact likelihood of a causal network whose columns predict the next one."""
    if not network.lookback:
        raise ConfigError(f"{published.name} predicts masked columns in an order of its own: no bound is known for it")
    if row.shape[1] < 2:
        raise RequestError("there is nothing to score: give a text of at least one token")
    logits = network(row).double().log_softmax(-1)
    nats = -float(logits[0, 1:].gather(-1, row[0, 1:, None]).sum())
    return Bound(nats, 0.0, row.shape[1] - 1, exact=True)


def _without(never: Tensor, raw: Tensor, x_t: Tensor) -> Tensor:
    """log p(x_0 | x_t), Float[n, V], with nothing on [MASK]."""
    return raw.masked_fill(never, -torch.inf).log_softmax(-1)


def _pad(published: PublishedModel) -> int:
    return (*published.stop_ids, 0)[0] if published.pad_id is None else published.pad_id
