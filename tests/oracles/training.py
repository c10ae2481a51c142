"""Tiny networks, trained for a second, and the two questions asked of every family: its bound, and its samples."""

import math
from dataclasses import replace

import torch
from strings import last
from torch import nn

from mezzotint.batch import Batch
from mezzotint.decode.canvas import infill
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.layouts import Attend, Inputs
from mezzotint.rng import Rng


class Tiny(nn.Module):
    """All columns and the time in, logits of all columns out; for sequences of one length and few tokens."""

    def __init__(self, vocab, length, out=None, width=64):
        super().__init__()
        torch.manual_seed(0)
        self.vocab, self.shape = vocab, (length, out or vocab)
        self.layers = nn.Sequential(
            nn.Linear(length * vocab + 4, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, length * (out or vocab)),
        )

    def forward(self, inputs, t):
        x = nn.functional.one_hot(inputs.x, self.vocab).flatten(1).float()
        t = t.float().mean(-1, keepdim=True)
        clock = torch.cat([t, t.sqrt(), (t + 1e-3).log() / 7, (1 - t + 1e-3).log() / 7], -1)
        return self.layers(torch.cat([x, clock], -1)).unflatten(-1, self.shape)


class Packed(nn.Module):
    """`inner` on columns with the blanks moved behind the tokens; a column gets the answer of its token's place."""

    def __init__(self, inner, blank):
        super().__init__()
        self.inner, self.blank = inner, blank

    def forward(self, inputs, t):
        present = inputs.x != self.blank
        present[:, 0] = True
        order = (~present).long().argsort(dim=-1, stable=True)
        raw = self.inner(replace(inputs, x=inputs.x.gather(-1, order)), t)
        place = (present.long().cumsum(-1) - 1)[..., None].expand(-1, -1, raw.shape[-1])
        return raw.gather(1, place)


def trained(net, objective, batches, steps=400, lr=1e-2):
    """The network after `steps` steps of Adam on batches(step)."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, betas=(0.9, 0.98), fused=True)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 20) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        objective(net, batches(step), Rng(1, step)).total.backward()
        optimizer.step()
    return net.eval()


def sequences(source, rows, seed):
    """A batch of a toy source."""
    tokens = source.sample(rows, seed)
    return Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))


@torch.no_grad()
def bound(net, objective, batch):
    """Nats per sequence, and the error of their mean."""
    nats = objective(net, batch, Rng(2)).per_token.double().sum(-1)
    return float(nats.mean()), float(nats.std() / len(nats) ** 0.5)


@torch.no_grad()
def distances(net, family, source, counts, rows=8192):
    """Total variation between the family's samples and the source, for each number of steps."""
    found = []
    for steps in counts:
        canvas = infill([[None] * source.length] * rows, family.process.prior)

        def denoise(canvas, step):
            columns = canvas.tokens.shape[1]
            return net(Inputs(canvas.tokens, torch.arange(columns), Attend(columns, columns)), step.t)

        tokens = last(decode(canvas, denoise, family.rule, Blocks(source.length, steps))).tokens
        known = (tokens < source.real).all(-1)
        seen = torch.bincount(source.index(tokens[known]), minlength=len(source.p)) / rows
        found.append(float((seen - source.p).abs().sum() + (~known).double().mean()) / 2)
    return found
