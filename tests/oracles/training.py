"""Tiny networks trained for a second, networks that know all, and what both are asked: the bound, and samples."""

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


class Exact:
    """A network that knows the source: (inputs, t) -> logits log N p(x_0 | x_t), the id behind the N tokens impossible.

    Shifted by log N these are also the scaled scores of SEDD.

    Args:
        source: of sequences.
        likelihood: (x_t, t) -> q(x_t | x_0) for every clean token, Float64[B, L, N].
        own: the ordinary posterior, for families that ask for it; else the column's own token is not looked at.
    """

    def __init__(self, source, likelihood, own=False):
        self.source, self.likelihood, self.own = source, likelihood, own

    def __call__(self, inputs, t):
        p = self.source.given(self.likelihood(inputs.x, t.double()), self.own)
        raw = (p.clamp_min(1e-30) * self.source.real).log()
        return nn.functional.pad(raw, (0, 1), value=-1e9).float()


@torch.no_grad()
def nats(net, objective, batch):
    """Float64[B]: nats per sequence, always with the same noise."""
    return objective(net, batch, Rng(2)).per_token.double().sum(-1)


def bound(net, objective, batch):
    """Nats per sequence, and the error of their mean."""
    return mean(nats(net, objective, batch))


def mean(values):
    """The mean of Float64[n], and its error."""
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


def noise(source, rows):
    """The total variation that `rows` exact draws have on average: |mean of n draws - p| is normal at this size."""
    return float((source.p * (1 - source.p) * 2 / math.pi / rows).sqrt().sum() / 2)


@torch.no_grad()
def distances(net, family, source, counts, rows=8192):
    """Total variation between the family's samples and the source, for each number of steps."""
    found, ids = [], source.real + 1
    states = torch.cartesian_prod(*[torch.arange(ids)] * source.length).view(-1, source.length)
    inputs = Inputs(states, torch.arange(source.length), Attend(source.length, source.length))
    places = ids ** torch.arange(source.length - 1, -1, -1)
    for steps in counts:
        canvas = infill([[None] * source.length] * rows, family.process.prior)

        def denoise(canvas, step):
            # all rows are at one time, and there are few states: each is asked once
            return net(inputs, step.t[:1].expand(len(states), 1))[(canvas.tokens * places).sum(-1)]

        tokens = last(decode(canvas, denoise, family.rule, Blocks(source.length, steps))).tokens
        known = (tokens < source.real).all(-1)
        seen = torch.bincount(source.index(tokens[known]), minlength=len(source.p)) / rows
        found.append(float((seen - source.p).abs().sum() + (~known).double().mean()) / 2)
    return found
