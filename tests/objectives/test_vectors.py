"""Estimates of a chain's bound on vectors."""

import torch

from mezzotint.batch import Batch
from mezzotint.objectives.vectors import FirstApart
from mezzotint.processes.betas import Table, cosine
from mezzotint.processes.gaussian import Gaussian, fresh
from mezzotint.rng import Rng

STEPS = 8


def test_the_first_time_is_always_asked_and_counts_as_one_of_all():
    process = Gaussian(fresh(5, 3), Table.of(cosine(STEPS)))
    tokens = torch.zeros(4000, 2, dtype=torch.long)
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))

    def spike(raw, x):
        return {"spike": torch.where(x.t * STEPS < 1.5, 800.0, x.t * STEPS).expand(-1, 2)}

    loss = FirstApart(process, spike, STEPS)(lambda inputs, t: inputs.x, batch, Rng(0))
    others = torch.arange(2, STEPS + 1).float()
    torch.testing.assert_close(loss.per_token.mean(), (800 + others.sum()) / STEPS, rtol=1e-3, atol=0)
    assert loss.per_token.max() - loss.per_token.min() <= others[-1] - others[0]
    assert int(loss.count) == 8000
