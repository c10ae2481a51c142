"""Hybrid: causal context and a diffusion block on one frozen network (TiDAR, arXiv 2511.08923; DFlash, 2602.06036).

Process   processes/absorbing.py, on the block only, at mask ratio 1 for most anchors and uniform for the others
Layout    context rows causal; block rows see the context up to their anchor and their own block both ways
Loss      cross-entropy to the network's own next-token distribution (its largest log-probabilities, renormalised and
          mixed with its argmax, which is what greedy verification asks for), earlier offsets weighing more
          (DFlash, sec. 4: w_k = exp(-(k - 1) / gamma))
Network   denoisers/networks/drafter.py; the causal network itself is never run while training
Checked   tests/train/test_drafter_loss.py: rows of the training pass equal those of the decoding pass
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.denoisers.networks.drafter import Drafter, sees
from mezzotint.objectives.base import Loss
from mezzotint.rng import Rng


@dataclass(slots=True)
class DraftBatch:
    """Answers of the causal network with its hidden states; see train/drafter/answers.py."""

    tokens: Tensor
    """Long[B, N]."""
    taps: Tensor
    """Float[B, N, taps, width]."""
    top_ids: Tensor
    """Long[B, N, K]: likeliest next tokens as indices into the drafter's ids and then `others`; -1 for neither."""
    top_p: Tensor
    """Float[B, N, K]: their probabilities; all zero where nothing is to be learned."""
    anchors: Tensor
    """Long[B, A]: positions whose context row a block hangs on; anchor + block + 2 <= N."""
    known: Tensor
    """Bool[B, A, block]: block columns already decided."""
    others: Tensor
    """Long[E]: ids of the batch that the drafter's own lack; a stand-in for those that a context brings with it."""


@dataclass(frozen=True)
class DraftLoss:
    """Objective of the drafter."""

    gamma: float = 4.0
    """Decay of an offset's weight, in tokens."""
    argmax: float = 0.5
    """Share of the target put on the causal network's first choice."""

    def __call__(self, denoiser: Drafter, batch: DraftBatch, rng: Rng) -> Loss:
        block = batch.known.shape[2]
        context, blocks = rows(denoiser, batch)
        total = torch.zeros((), device=context.device)
        weight = torch.zeros((), device=context.device)
        metrics: dict[str, Tensor] = {}
        state, at = context, torch.arange(context.shape[1], device=context.device).expand(context.shape[:2])
        for offset in range(block + 1):
            ids, p = (_take(x, at + 1) for x in (batch.top_ids, batch.top_p))
            live = (p.sum(-1) > 0) & (ids[..., 0] >= 0)
            logp = denoiser.logits(state[live], batch.others).log_softmax(-1)
            goal = (1 - self.argmax) * p[live] / p[live].sum(-1, keepdim=True)
            goal[:, 0] += self.argmax
            nats = -(goal * logp.gather(-1, ids[live].clamp_min(0)).masked_fill(ids[live] < 0, 0)).sum(-1)
            share = float(torch.tensor(-offset / self.gamma).exp())
            total = total + share * nats.sum()
            weight = weight + share * nats.numel()
            metrics[f"right_{offset + 1}"] = (logp.argmax(-1) == ids[live][:, 0]).float().sum() / max(len(logp), 1)
            if offset == block:
                break
            at = batch.anchors + offset + 1
            before = state.gather(1, batch.anchors[..., None].expand(-1, -1, state.shape[-1])) if offset == 0 else state
            state = denoiser.advance(blocks[:, :, offset], _take(batch.tokens, at + 1), before)
        return Loss(total / weight.clamp_min(1), weight, metrics=metrics)


def rows(denoiser: Drafter, batch: DraftBatch) -> tuple[Tensor, Tensor]:
    """Trunk outputs of all context rows, Float[B, N - 1, width], and block rows, Float[B, A, block, width]."""
    (b, n), (a, block) = batch.tokens.shape, batch.known.shape[1:]
    context = denoiser.context_rows(batch.taps[:, :-1], batch.tokens[:, 1:])
    where = batch.anchors[..., None] + torch.arange(1, block + 1, device=batch.tokens.device)
    following = _take(batch.tokens, (where + 1).flatten(1))
    blocks = denoiser.block_rows(following, batch.known.flatten(1))
    own = torch.arange(n - 1, device=context.device).expand(b, -1)
    positions = torch.cat([own, where.flatten(1)], 1)
    anchors = torch.cat([own, batch.anchors.repeat_interleave(block, 1)], 1)
    out = denoiser.trunk(
        torch.cat([context, blocks], 1), positions, sees(positions, anchors, n - 1, denoiser.shape.window)
    )
    return out[:, : n - 1], out[:, n - 1 :].unflatten(1, (a, block))


def _take(x: Tensor, at: Tensor) -> Tensor:
    """x[b, at[b, i]] for Long[B, M], with positions past the end read as the last."""
    at = at.clamp_max(x.shape[1] - 1)
    return x.gather(1, at) if x.ndim == 2 else x.gather(1, at[..., None].expand(*at.shape, x.shape[-1]))
