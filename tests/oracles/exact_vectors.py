"""The exact denoiser of Gaussian families: conditional means by enumeration over all sequences of a source."""

import torch
from torch import nn

from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.decode.samplers.embedding_canvas import begin, reading


class Exact(nn.Module):
    """E[z_0 | z_t] for sequences Long[n, L] of probabilities Float64[n], on a process; columns at time 0 are known."""

    def __init__(self, process, sequences, p):
        super().__init__()
        self.process, self.sequences, self.p = process, sequences, p.double()

    def forward(self, inputs, t):
        z = inputs.x.double()
        table = self.process.table.detach().double()
        t = t.expand(z.shape[:2])
        a, spread = self.process.alpha(t)[..., None], self.process.spread**2
        variance = 1 - a + a * spread
        gap = -((z[:, :, None] - a[..., None] ** 0.5 * table) ** 2).sum(-1) / (2 * variance).clamp_min(1e-4)
        columns = torch.arange(z.shape[1])
        weight = (self.p.log() + gap[:, columns, self.sequences].sum(-1)).softmax(-1)  # [B, n]
        means = torch.einsum("bn,nle->ble", weight, table[self.sequences])
        gain = a.sqrt() * spread / variance.clamp_min(1e-12)
        return (means + gain * (z - a.sqrt() * means)).to(inputs.x.dtype)


def written(net, process, rule, rows, steps, plan=None, start=None):
    """Long[B, L]: the tokens after a whole run."""
    canvas = begin(rows, process)
    canvas = canvas if start is None else start(canvas)
    with torch.no_grad():
        *_, last = decode(canvas, reading(net), rule, plan or Blocks(len(rows[0]), steps))
    return last.tokens
