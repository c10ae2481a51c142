"""The toy sources give the published numbers: entropies, and what masked conditionals cost."""

import math

import pytest
import torch
from sources import MARKOV, PAIR, SOURCES, TOKEN, masks

# E[sum of the cross-entropies of the masked columns | k of them are masked] on the Markov source
MASKED_COST = {1: 0.8205279295, 2: 1.7613213115, 3: 2.8709827599, 4: 4.2424480067}
# discrete-time bound on the Markov source: mask probability i / T, weight 1 / i
DISCRETE_BOUND = {
    1: 4.242448006677714,
    2: 3.9697501679099534,
    4: 3.841554690163689,
    8: 3.77949531169996,
    16: 3.748975212570447,
    64: 3.7263080838930907,
    256: 3.72067116051881,
    1024: 3.719263795849932,
}


def cost(x_0, hidden):
    """Cross-entropy per column, Float64[B, L]: zero where nothing is hidden."""
    p0 = MARKOV.masked(x_0.masked_fill(hidden, MARKOV.mask_id))
    return -p0.gather(-1, x_0[..., None])[..., 0].log()


@pytest.mark.parametrize(
    ("source", "nats"), [(MARKOV, 3.7187948401758346), (TOKEN, 1.0296530140645737), (PAIR, 1.9177260)]
)
def test_entropies(source, nats):
    assert source.entropy == pytest.approx(nats, abs=1e-7 if source is PAIR else 1e-14)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.name)
def test_probabilities_sum_to_one_and_samples_follow_them(source):
    assert float(source.p.sum()) == pytest.approx(1, abs=1e-14)
    seen = torch.bincount(source.index(source.sample(50_000)), minlength=len(source.p)) / 50_000
    assert float((seen - source.p).abs().max()) < 5 * 0.5 / math.sqrt(50_000)


def test_indices_point_into_the_list():
    assert torch.equal(MARKOV.index(MARKOV.sequences), torch.arange(81))


@pytest.mark.parametrize("k", MASKED_COST)
def test_expected_cost_of_k_masks(k):
    sets = [hidden for hidden in masks(4) if int(hidden.sum()) == k]
    nats = sum((MARKOV.p * cost(MARKOV.sequences, hidden.expand(81, -1)).sum(-1)).sum() for hidden in sets) / len(sets)
    assert float(nats) == pytest.approx(MASKED_COST[k], abs=1e-10)


def test_costs_over_k_add_up_to_minus_log_p_of_every_sequence():
    total = torch.zeros(81, dtype=torch.float64)
    for hidden in masks(4)[1:]:
        k = int(hidden.sum())
        total += cost(MARKOV.sequences, hidden.expand(81, -1)).sum(-1) / (k * math.comb(4, k))
    torch.testing.assert_close(total, -MARKOV.p.log(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("steps", DISCRETE_BOUND)
def test_discrete_bound(steps):
    total = 0.0
    for k, nats in MASKED_COST.items():
        for i in range(1, steps + 1):
            gone = i / steps
            total += math.comb(4, k) * gone**k * (1 - gone) ** (4 - k) * nats / i
    assert total == pytest.approx(DISCRETE_BOUND[steps], abs=2e-9)


def test_without_its_own_token_a_lone_column_falls_back_on_the_prior():
    x_t, alpha = torch.arange(3)[:, None], torch.full((3, 1), 0.4)
    blind, seeing = TOKEN.uniform(x_t, alpha, own=False), TOKEN.uniform(x_t, alpha, own=True)
    torch.testing.assert_close(blind[:, 0], TOKEN.p.expand(3, 3))
    weight = TOKEN.p * (0.4 * torch.eye(3, dtype=torch.float64) + 0.2)
    torch.testing.assert_close(seeing[:, 0], weight / weight.sum(-1, keepdim=True))


def test_conditionals_agree_with_summing_the_list():
    mask = MARKOV.mask_id
    p0 = MARKOV.masked(torch.tensor([[mask, 1, mask, 2]]))[0]
    kept = (MARKOV.sequences[:, 1] == 1) & (MARKOV.sequences[:, 3] == 2)
    for token in range(3):
        wanted = MARKOV.p[kept & (MARKOV.sequences[:, 2] == token)].sum() / MARKOV.p[kept].sum()
        assert float(p0[2, token]) == pytest.approx(float(wanted), abs=1e-14)
    assert p0[1].tolist() == [0, 1, 0]
