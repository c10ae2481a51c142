"""Routers against brute force, experts against a loop over columns, and heads that turn in part."""

import pytest
import torch
import torch.nn.functional as F

from mezzotint.denoisers.layers.moe import BlockRouting, Experts, ExpertsConfig, Grouped, Softmax
from mezzotint.denoisers.networks.llama import rope, rotated

ROWS, COUNT = 40, 16


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grouped(rule, scores, bias):
    """LLaDA2's choice, one column at a time: (experts, their weights)."""
    found = []
    size = len(scores[0]) // rule.groups
    for row in scores:
        p = [1 / (1 + float(torch.exp(-x))) for x in row]
        ranked = [x + float(b) for x, b in zip(p, bias, strict=True)]
        groups = [ranked[g * size : (g + 1) * size] for g in range(rule.groups)]
        best = sorted(range(rule.groups), key=lambda g: -sum(sorted(groups[g])[-2:]))[: rule.kept]
        inside = [e for e in range(len(p)) if e // size in best]
        chosen = sorted(inside, key=lambda e: -ranked[e])[: rule.chosen]
        total = sum(p[e] for e in chosen)
        found.append({e: p[e] / total * rule.scale for e in chosen})
    return found


@pytest.mark.parametrize(("groups", "kept"), [(4, 2), (8, 4), (1, 1)])
def test_27_experts_compete_only_in_the_best_groups(groups, kept):
    rule = Grouped(chosen=3, groups=groups, kept=kept, scale=2.5)
    scores, bias = drawn(ROWS, COUNT), drawn(COUNT, seed=1)
    index, weight = rule(scores, bias)
    for row, want in enumerate(grouped(rule, scores, bias)):
        got = dict(zip(index[row].tolist(), weight[row].tolist(), strict=True))
        assert got == pytest.approx(want, rel=1e-5)
    torch.testing.assert_close(weight.sum(-1), torch.full((ROWS,), 2.5))


def test_27_a_bias_changes_what_llada2_chooses_and_not_its_weights():
    rule, scores = Grouped(chosen=COUNT, groups=1, kept=1, scale=1.0), drawn(ROWS, COUNT)
    plain, biased = rule(scores, None), rule(scores, drawn(COUNT, seed=2))
    same = [weight.gather(-1, index.argsort(-1)) for index, weight in (plain, biased)]
    torch.testing.assert_close(*same)
    few = Grouped(chosen=2, groups=4, kept=2, scale=1.0)
    assert not torch.equal(few(scores, None)[0], few(scores, 9 * drawn(COUNT, seed=2))[0])


def test_27_a_bias_stays_in_the_weights_of_llada_moe():
    scores, bias = drawn(ROWS, COUNT), drawn(COUNT, seed=3)
    index, weight = Softmax(3, renormalised=False)(scores, bias)
    torch.testing.assert_close(weight, (scores.softmax(-1) + bias).gather(-1, index))
    torch.testing.assert_close(weight, (scores.softmax(-1) + bias).topk(3, -1).values)


def test_weights_of_qwen_sum_to_one():
    _, weight = Softmax(3, renormalised=True)(drawn(ROWS, COUNT), None)
    torch.testing.assert_close(weight.sum(-1), torch.ones(ROWS))


@pytest.mark.parametrize("shared", [0, 5])
@torch.no_grad()
def test_experts_equal_a_loop_over_columns(shared):
    torch.manual_seed(0)
    config = ExpertsConfig(count=5, inner=6, router=Softmax(2, renormalised=True), biased=True, shared=shared)
    experts, x = Experts(config, 8), drawn(2, 7, 8)
    got = experts(x)
    for row, column in torch.cartesian_prod(torch.arange(2), torch.arange(7)).tolist():
        one = x[row, column]
        index, weight = experts.route(one[None])
        want = torch.zeros(8)
        for expert, share in zip(index[0].tolist(), weight[0], strict=True):
            gate, up = (experts.gate_up.weight[expert] @ one).chunk(2)
            want += share * (experts.down.weight[expert] @ (F.silu(gate) * up))
        if experts.shared is not None:
            want += experts.shared(one)
        torch.testing.assert_close(got[row, column], want, rtol=1e-4, atol=1e-5)


def test_28_components_beyond_the_turned_ones_know_no_position():
    x = drawn(1, 2, 6, 16)
    turned = rotated(x, rope(torch.arange(6), 8, 100.0, torch.float32))
    assert torch.equal(turned[..., 8:], x[..., 8:])
    torch.testing.assert_close(turned[..., :8], rotated(x[..., :8], rope(torch.arange(6), 8, 100.0, torch.float32)))
    assert not torch.allclose(turned[..., 1:, :8], x[..., 1:, :8])


def test_turning_in_32_bits_is_rounded_once():
    """LLaDA's rope_full_precision: cosines of bfloat16 would add their own rounding."""
    x, positions = drawn(1, 2, 12, 16).bfloat16(), torch.arange(3000, 3012)
    exact = rope(positions, 16, 5e5, torch.float32)
    want = rotated(x.float(), exact).bfloat16()
    assert torch.equal(rotated(x, exact), want)
    assert not torch.equal(rotated(x, rope(positions, 16, 5e5, torch.bfloat16)), want)


def test_a_block_uses_what_its_columns_want_most():
    rule, pool = Grouped(chosen=2, groups=2, kept=2, scale=1.0), BlockRouting(admitted=5, block=4)
    scores, bias = drawn(2 * 10, COUNT), drawn(COUNT, seed=1)
    index, weight = rule(scores, pool(scores, bias, 10))
    wanted = (scores.sigmoid() + bias).view(2, 10, COUNT)
    for row in range(2):
        for start in range(0, 10, 4):
            block = wanted[row, start : start + 4].tolist()
            admitted = sorted(range(COUNT), key=lambda e: -max(column[e] for column in block))[:5]
            for at, column in enumerate(block, 10 * row + start):
                best = sorted(admitted, key=lambda e: -column[e])[:2]
                assert index[at].tolist() == best
                torch.testing.assert_close(weight[at], F.normalize(scores[at, best].sigmoid(), p=1, dim=0))


@torch.no_grad()
def test_a_pool_that_admits_all_is_none():
    config = {"count": 5, "inner": 6, "router": Grouped(2, 1, 1, 2.5), "biased": True}
    torch.manual_seed(0)
    plain = Experts(ExpertsConfig(**config), 8)
    pooled = Experts(ExpertsConfig(**config, pool=BlockRouting(5, 3)), 8)
    pooled.load_state_dict(plain.state_dict())
    x = drawn(2, 7, 8)
    assert torch.equal(plain(x), pooled(x))
    pooled = Experts(ExpertsConfig(**config, pool=BlockRouting(2, 3)), 8)
    pooled.load_state_dict(plain.state_dict())
    torch.testing.assert_close(pooled(x)[:, 3:6], pooled(x[:, 3:6]))
    assert not torch.allclose(plain(x), pooled(x))
