"""Block diffusion against what is known of it: MDLM at one block, exact bounds, and who may influence whom."""

from dataclasses import replace

import pytest
import torch

from mezzotint.batch import Batch
from mezzotint.decode.canvas import infill, write
from mezzotint.decode.loop import decode
from mezzotint.decode.samplers.first_hitting import FirstHitting
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.errors import CanvasError, ConfigError
from mezzotint.families.bd3lm import BD3LM, RANGES, bd3lm, best, hitting
from mezzotint.families.mdlm import mdlm
from mezzotint.layouts import Full, NoisyThenClean
from mezzotint.objectives.times import BlockStrata, Stratified
from mezzotint.processes.absorbing import Absorbing
from mezzotint.processes.clipped_absorbing import Resampled
from mezzotint.rng import Rng
from mezzotint.schedules import Exponential, Linear, Sqrt

VOCAB, MASK = 7, 6


def network(**shape):
    torch.manual_seed(0)
    net = TransformerConfig(**{"width": 32, "layers": 3, "heads": 2, **shape}).build(VOCAB)
    torch.nn.init.normal_(net.head.weight, std=0.5)
    return net


def tokens(rows=4, columns=12):
    return torch.randint(0, VOCAB - 1, (rows, columns), generator=torch.Generator().manual_seed(1))


def everything(x):
    return Batch(x, torch.ones_like(x, dtype=torch.bool))


def gradients(net, loss):
    return dict(zip(dict(net.named_parameters()), torch.autograd.grad(loss.total, list(net.parameters())), strict=True))


def test_one_block_of_the_whole_length_is_mdlm_with_the_same_noise():
    x, net = tokens(), network()
    process = Absorbing(VOCAB, MASK, Linear(eps=0))
    blocks = bd3lm(process, x.shape[1]).objective(net, everything(x), Rng(3))
    whole = mdlm(process, Stratified()).objective(net, everything(x), Rng(3))
    torch.testing.assert_close(blocks.per_token, whole.per_token)
    assert whole.total > 0


@pytest.mark.parametrize("block", [1, 2, 3, 4, 12])
def test_the_fast_loss_and_its_gradients_are_those_of_the_reference(block):
    x, net = tokens(), network()
    batch = everything(x)
    batch.target[0, :5] = False
    objective = bd3lm(Absorbing(VOCAB, MASK, Linear(eps=0)), block).objective
    fast, slow = objective(net, batch, Rng(5)), objective.reference(net, batch, Rng(5))
    torch.testing.assert_close(fast.total, slow.total)
    torch.testing.assert_close(fast.per_token, slow.per_token)
    assert fast.count == slow.count
    for (name, one), two in zip(gradients(net, fast).items(), gradients(net, slow).values(), strict=True):
        torch.testing.assert_close(one, two, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("block", [2, 3, 6])
def test_what_a_block_must_not_see_does_not_move_it(block):
    x_0, net, layout = tokens(1), network().eval(), NoisyThenClean(block)
    x_t = x_0.masked_fill(torch.rand(x_0.shape, generator=torch.Generator().manual_seed(2)) < 0.5, MASK)
    before = layout.extract(net(layout.arrange(x_t, x_0)))
    for number in range(12 // block):
        here = slice(number * block, (number + 1) * block)
        clean, noisy = x_0.clone(), x_t.clone()
        clean[:, here.start :] = (clean[:, here.start :] + 1) % MASK
        noisy[:, : here.start] = 0
        noisy[:, here.stop :] = 1
        after = layout.extract(net(layout.arrange(noisy, clean)))
        torch.testing.assert_close(after[:, here], before[:, here])
        seen = x_0.clone()
        seen[:, : here.start] = (seen[:, : here.start] + 1) % MASK
        if number:
            assert not torch.allclose(layout.extract(net(layout.arrange(x_t, seen)))[:, here], before[:, here])


@pytest.mark.parametrize(("columns", "block"), [(8, 2), (12, 3), (16, 16), (16, 1)])
def test_the_number_of_visible_pairs(columns, block):
    x = torch.zeros(1, columns, dtype=torch.long)
    seen = NoisyThenClean(block).arrange(x, x).attend.dense()
    assert int(seen.sum()) == columns**2 + columns * block


@pytest.mark.parametrize("block", [1, 4, 64, 96, 192])
def test_attention_in_groups_equals_the_dense_mask(block):
    """Wide enough for several groups of blocks, and for blocks wider than a group."""
    columns, net = 384, network(layers=1)
    x = torch.randint(0, VOCAB, (2, 2, columns), generator=torch.Generator().manual_seed(4))
    inputs = NoisyThenClean(block).arrange(*x)
    dense = replace(inputs, attend=replace(inputs.attend, twin=None))
    torch.testing.assert_close(net(inputs), net(dense), atol=1e-5, rtol=1e-4)


def test_resampled_shares_stay_within_their_limits_and_have_the_rejected_distribution():
    process, x = Absorbing(VOCAB, MASK, Linear(eps=0)), torch.zeros(20_000, 8, dtype=torch.long)
    t = torch.full((20_000, 8), 0.4)
    counts = (Resampled(process, 4, 0.3, 0.8).corrupt(x, t, Rng(1)) == MASK).reshape(-1, 4).sum(-1)
    plain = (process.corrupt(x, t, Rng(2)) == MASK).reshape(-1, 4).sum(-1)
    kept = plain[(plain >= 0.3 * 4) & (plain <= 0.8 * 4)]
    assert set(counts.tolist()) == {2, 3}
    torch.testing.assert_close((counts == 2).float().mean(), (kept == 2).float().mean(), atol=0.02, rtol=0)


def test_limits_of_the_whole_range_are_plain_absorbing():
    process, x = Absorbing(VOCAB, MASK, Linear(eps=0)), torch.zeros(20_000, 4, dtype=torch.long)
    counts = (Resampled(process, 4, 1e-3, 1.0).corrupt(x, torch.full(x.shape, 0.4), Rng(1)) == MASK).sum(-1)
    wanted = torch.distributions.Binomial(4, torch.tensor(0.4)).log_prob(torch.arange(5.0)).exp()
    torch.testing.assert_close(counts.bincount(minlength=5) / 20_000, wanted, atol=0.02, rtol=0)


def test_a_range_without_a_whole_number_of_masks_is_refused():
    with pytest.raises(ConfigError, match="no number of masks in a block of 1"):
        BD3LM(block=1, clip=(0.2, 0.7)).build(VOCAB, MASK)


def test_masked_tokens_weigh_one_where_little_survives():
    x = tokens(64, 8)
    family = BD3LM(block=4, clip=(0.6, 1.0)).build(VOCAB, MASK)
    loss = family.objective(network().requires_grad_(False), everything(x), Rng(0))
    bound = bd3lm(Absorbing(VOCAB, MASK, Linear(eps=0)), 4, (0.5, 1.0)).objective
    assert family.objective.weight(torch.tensor([0.7])) == 1
    assert bound.weight(torch.tensor([0.5])) == 2
    assert ((loss.per_token > 0).float().mean(1) >= 0.6 - 1e-6).all()


def test_the_chosen_range_varies_least():
    """A network that knows nothing: the loss of a block is its masked share over t, least spread where t is high."""
    x = tokens(256, 16)
    process, net = Absorbing(VOCAB, MASK, Linear(eps=0)), network().requires_grad_(False)
    torch.nn.init.zeros_(net.head.weight)
    ranges = ((1e-3, 0.5), (0.3, 0.8), (0.5, 1.0))
    assert best(process, 16, net, [everything(x)], Rng(0), ranges) == (0.5, 1.0)
    assert best(process, 1, net, [everything(x)], Rng(0), [(0.2, 0.7), (1e-3, 1.0)]) == (1e-3, 1.0)
    assert len(RANGES) == 11 + 9 + 7 + 5 + 3


def test_times_are_one_per_block_and_spread_over_the_range():
    t = BlockStrata(3, 0.2, 0.6)(everything(tokens(8, 12)), Rng(0)).reshape(-1, 3)
    assert (t == t[:, :1]).all()
    cells = ((t[:, 0] - 0.2) / 0.4 * 32).floor()
    assert torch.equal(cells, torch.arange(32.0))


def test_first_hitting_reveals_one_column_per_step_at_the_known_times():
    process = Absorbing(VOCAB, MASK, Linear(eps=0))
    canvas = write([[]] * 4000, 4, process.prior)
    raw = torch.zeros(4000, 4, VOCAB)
    plan = FirstHitting(4)
    steps = list(plan(canvas))
    mean = torch.stack([step.t[:, 0] for step in steps]).mean(1)
    # the next of n reveals is at t n / (n + 1) on average
    wanted = torch.tensor([4 / 5, 4 / 5 * 3 / 4, 4 / 5 * 3 / 4 * 2 / 3, 4 / 5 * 3 / 4 * 2 / 3 / 2]).double()
    torch.testing.assert_close(mean, wanted, atol=0.02, rtol=0)
    for number, after in enumerate(decode(canvas, lambda canvas, step: raw, hitting(process), plan)):
        assert (after.open.sum(-1) == 3 - number).all()


def test_both_samplers_draw_what_the_network_says():
    """A network that ignores its input: the columns are independent draws from its answer."""
    raw = torch.tensor([0.5, -1.0, 0.0, 1.0, 0.3, -0.5, 4.0]).expand(4000, 2, VOCAB)
    wanted = torch.cat([raw[0, 0, :6].softmax(-1), torch.zeros(1)])
    for sampler in ("ancestral", "first-hitting"):
        family = BD3LM(block=2, sampler=sampler).build(VOCAB, MASK)
        canvas = write([[]] * 4000, 4, family.process.prior)
        path = list(decode(canvas, lambda c, s: raw, family.rule, family.form.plan(canvas, 10)))
        assert len(path) == (4 if sampler == "first-hitting" else 10)
        after = path[-1]
        for column in range(4):
            often = after.tokens[:, column].bincount(minlength=VOCAB) / 4000
            torch.testing.assert_close(often, wanted, atol=0.03, rtol=0)


def test_blocks_stay_at_their_places_when_text_is_given():
    family = BD3LM(block=4).build(VOCAB, MASK)
    canvas = infill([[1, 2, 3, 0, 1, None, None, 2]], family.process.prior)
    windows = {(int(step.window.start[0]), step.window.size) for step in FirstHitting(4)(canvas)}
    assert windows == {(4, 4)}
    with pytest.raises(CanvasError, match="use a whole number of blocks"):
        next(FirstHitting(3)(canvas))


def test_a_network_without_memory_sees_full_attention_as_before():
    x, net = tokens(2), network()
    torch.testing.assert_close(net(Full().arrange(x, x)), net.head(net.hidden(Full().arrange(x, x))))


@pytest.mark.parametrize("schedule", [Linear(eps=0), Sqrt(s=0), Exponential(high=20.0)], ids=lambda s: s.kind)
def test_the_bound_covers_all_times(schedule):
    """A network that knows nothing costs log N a token; the loss, which begins at 1e-3, leaves up to 3 % of it out."""
    family, x = BD3LM(schedule=schedule, block=4).build(VOCAB, MASK), everything(tokens(4000, 16))
    bound = family.bound
    t = bound.reference.times(x, Rng(0))
    masked = 1 - schedule.alpha(t.double())
    assert float((bound.weight(t) * masked).mean()) == pytest.approx(1, abs=1e-2)
