"""The autoregressive model on the diffusion families' trunk, trainer and evaluation: the baseline of every table.

Loss      -log p(x_i | x_1 .. x_{i-1}), exact; [MASK], which text never holds, stands before the first token
Network   causal, without time
Sampler   left to right, one column at a time, a draw from p; columns before it are kept as keys and values
Checked   tests/families/test_ar.py
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.config import config
from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.loop import Denoise
from mezzotint.decode.propose import Draw
from mezzotint.decode.rule import Unmask
from mezzotint.decode.shapers import Ban
from mezzotint.families.base import Family
from mezzotint.families.forms.tokens import Tokens
from mezzotint.layouts import Attend, Inputs, Shifted
from mezzotint.masks import block_causal
from mezzotint.objectives.base import Loss
from mezzotint.objectives.chunked_cross_entropy import Split, cross_entropy
from mezzotint.processes.absorbing import Absorbing
from mezzotint.rng import Rng
from mezzotint.schedules import Linear


@config
class AR:
    """One token after another."""

    kind: Literal["ar"] = "ar"

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, [MASK] included."""
        layout = Shifted(mask_id)
        rule = Unmask(Draw(), shapers=(Ban(torch.arange(vocab) == mask_id),))
        process = Absorbing(vocab, mask_id, Linear())
        form = Tokens(process.prior, reader=Onward(mask_id).of, block=1)
        return Family(process, LeftToRight(layout), rule, reading=layout, block=1, form=form, exact=True)


@dataclass(frozen=True)
class LeftToRight:
    """Cross-entropy of every target token given those before it; nothing is drawn."""

    layout: Shifted

    def __call__(self, denoiser: Any, batch: Batch, rng: Rng) -> Loss:
        """The mean over target tokens."""
        x_0, wanted = batch.tokens, batch.target
        count, inputs = wanted.sum(), self.layout.arrange(x_0, x_0)
        if isinstance(denoiser, Split):
            h = denoiser.hidden_at(inputs, None, wanted.flatten().nonzero()[:, 0])
            share = torch.ones(h.shape[0], device=h.device) / count.clamp_min(1)
            total, nats = cross_entropy(h, denoiser.head, x_0[wanted], share, self.layout.begin)
            per_token = torch.zeros(wanted.shape, dtype=nats.dtype, device=nats.device).masked_scatter(wanted, nats)
            return Loss(total, count, per_token)
        nats = torch.where(wanted, self.nats(denoiser(inputs, None), x_0), 0.0)
        return Loss(nats.sum() / count.clamp_min(1), count, nats)

    def nats(self, raw: Tensor, x_0: Tensor) -> Tensor:
        """Float[B, L]: -log p(x_i | x_1 .. x_{i-1})."""
        raw = raw.float().index_fill(-1, torch.tensor(self.layout.begin, device=raw.device), -torch.inf)
        return -raw.log_softmax(-1).gather(-1, x_0[..., None])[..., 0]


@dataclass(frozen=True)
class Onward:
    """Reads a canvas from left to right and every column once: what stands before a window must be final."""

    begin: int

    def of(self, network: Any) -> Denoise:
        """For windows that only move to the right."""
        memory = None

        def denoise(canvas: Canvas, step: Step) -> Tensor:
            nonlocal memory
            rows, columns = canvas.tokens.shape
            if memory is None:
                memory = network.memory(rows, columns)
            start, end = memory.length, int(step.window.start[0]) + step.window.size
            before = F.pad(canvas.tokens[:, : end - 1], (1, 0), value=self.begin)[:, start:]
            attend = Attend(end - start, end, block_causal(1, start) if end - start > 1 else None)
            places = torch.arange(start, end, device=before.device)
            h = network.hidden(Inputs(before, places, attend, memory=memory), None)
            return network.head(h[:, -step.window.size :])

        return denoise
