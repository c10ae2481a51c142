"""Edit Flows on a listed source of strings: optimal rates, what they cost, and the sampler."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from strings import (
    ABSENT,
    BLANK,
    CLEAN,
    LONGEST,
    REAL,
    STRINGS,
    Exact,
    chi_square,
    entropy,
    generated,
    inverse_softplus,
    last,
    surprise,
    ways,
)

from mezzotint.decode.loop import decode
from mezzotint.decode.samplers.insert_delete import Whole, anchored, text
from mezzotint.families.edit_flow import EditFlow, guided, parts
from mezzotint.objectives.variable_length import anchor
from mezzotint.processes.alignment import RandomSource, apart, padded, shortest
from mezzotint.processes.mixture_path import Power
from mezzotint.rng import Rng

VOCAB = BLANK  # two letters, a mask that is never used, and the blank behind them
SCHEDULES = [Power(power=1.0), Power(power=3.0)]


def optimal(exact, schedule):
    """t -> the optimal raw outputs of every state, [states, positions, 3 + 2 VOCAB]."""

    def raw(t):
        alpha = float(schedule.alpha(t.double()))
        missing, _ = exact.means((alpha, 0.0, 1 - alpha))
        rate = missing.sum(-1, keepdim=True)
        out = torch.zeros(*missing.shape[:2], 3 + 2 * VOCAB, dtype=torch.float64)
        out[..., :1], out[..., 1:3] = inverse_softplus(rate / (1 - alpha)), -torch.inf
        out[..., 3 : 3 + VOCAB] = -torch.inf
        out[..., 3 : 3 + REAL] = torch.where(rate > 0, missing, 1.0).log()
        return out

    return raw


def shares(schedule):
    return lambda t: (schedule.alpha(t), torch.zeros_like(t), 1 - schedule.alpha(t))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_the_exact_rates_cost_every_string_its_surprise(schedule):
    exact, family = Exact(ways((CLEAN, ABSENT))), EditFlow(schedule=schedule).build(VOCAB, VOCAB - 1)
    best = optimal(exact, schedule)

    def time(root):
        return schedule.time(1 - root**2)

    found = exact.bound(family, best, shares(schedule), time)
    torch.testing.assert_close(found, surprise(STRINGS), rtol=0, atol=1e-6)

    def faster(t):
        raw = best(t)
        return torch.cat([inverse_softplus(1.1 * F.softplus(raw[..., :3])), raw[..., 3:]], -1)

    def blurred(t):
        raw = best(t)
        spread = torch.where(raw[..., 3 : 3 + REAL] == -torch.inf, -3.0, raw[..., 3 : 3 + REAL])
        return torch.cat([raw[..., :3], spread, raw[..., 3 + REAL :]], -1)

    p = torch.tensor(list(STRINGS.values()))
    for worse in (faster, blurred):
        assert (exact.bound(family, worse, shares(schedule), time) * p).sum() > entropy(STRINGS) + 1e-3


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_the_sampler_writes_the_source(schedule):
    exact, family = Exact(ways((CLEAN, ABSENT))), EditFlow(schedule=schedule).build(VOCAB, VOCAB - 1)
    best, rows = optimal(exact, schedule), 2500
    canvas = anchored([[None] * (LONGEST + 1)] * rows, BLANK)
    canvas = last(decode(canvas, lambda c, step: exact.at(best(step.t[0]), c.tokens), family.rule, Whole(96)))
    assert not canvas.open.any()
    counts = generated(text(canvas, BLANK), STRINGS)
    assert counts[-1] <= 0.01 * rows  # steps of finite size insert twice what was missing once
    assert chi_square(counts[:-1], torch.tensor(list(STRINGS.values()))) < 4


def test_the_chance_of_an_insertion_is_exact_on_a_single_missing_token():
    family = EditFlow().build(VOCAB, VOCAB - 1)
    schedule = EditFlow().schedule
    raw = torch.zeros(4000, 3, 3 + 2 * VOCAB, dtype=torch.float64)
    gone = 1 - float(schedule.alpha(torch.tensor(0.6, dtype=torch.float64)))
    raw[..., :1], raw[..., 1:3] = inverse_softplus(torch.tensor([1 / gone], dtype=torch.float64)), -torch.inf
    canvas = anchored([[None, None]] * 4000, BLANK)
    step = next(Whole(4)(canvas))
    step.t.fill_(0.6), step.s.fill_(0.3)
    after = family.rule(raw, canvas, step, canvas.rng)
    wanted = float((schedule.alpha(step.s) - schedule.alpha(step.t))[0, 0] / (1 - schedule.alpha(step.t)[0, 0]))
    assert float((after.tokens[:, 1] != BLANK).float().mean()) == pytest.approx(wanted, abs=0.03)


def test_deletions_and_substitutions_lead_from_random_tokens_to_the_text():
    # one clean string, so every remaining edit is known from the alignment of what is there
    target, coupling = [0, 1, 1], RandomSource(tuple(range(REAL)), 4, shortest, BLANK)
    schedule = Power(power=1.0)
    family = EditFlow(schedule=schedule, random=4).build(VOCAB, REAL)
    starts = coupling.draw(200, Rng(3))
    canvas = anchored([[None] * 8] * 200, BLANK)
    for row, start in enumerate(starts):
        canvas.tokens[row, 1 : 1 + len(start)] = torch.tensor(start, dtype=torch.long)

    def network(canvas, step):
        raw = torch.full((200, 9, 3 + 2 * VOCAB), -1e3, dtype=torch.float64)
        for row, tokens in enumerate(text(canvas, BLANK)):
            noisy, clean = shortest(tokens, target, BLANK)
            at, pending = 0, Counter()
            for a, b in zip(noisy, clean, strict=True):
                at += a != BLANK
                kind = 0 if a == BLANK else 1 if b == BLANK else 2
                if a != b:
                    pending[at, kind, b] += 1
                    raw[row, at, 3 + b + VOCAB * (kind == 2)] = 0.0 if kind != 1 else -1e3
            for (at, kind, _), count in pending.items():
                raw[row, at, kind] = inverse_softplus(count / step.t[row, 0].double())
        return raw

    canvas = last(decode(canvas, network, family.rule, Whole(64)))
    right = sum(row == target for row in text(canvas, BLANK))
    assert right >= 198


def test_prompts_and_suffixes_stay_and_nothing_enters_them():
    family = EditFlow().build(VOCAB, VOCAB - 1)
    canvas = anchored([[0, 1, None, None, None, 1, 0]] * 50 + [[1, None, None]] * 50, BLANK)
    raw = torch.full((100, 8, 3 + 2 * VOCAB), 2.0)
    for after in decode(canvas, lambda c, step: raw, family.rule, Whole(5)):
        texts = text(after, BLANK)
        assert all(row[:2] == [0, 1] and row[-2:] == [1, 0] and len(row) <= 7 for row in texts[:50])
        assert all(row[0] == 1 and len(row) <= 3 for row in texts[50:])
    assert max(map(len, texts[:50])) == 7


def test_a_missing_column_belongs_to_the_last_token_at_its_left_and_twins_are_one_operation():
    family = EditFlow(schedule=Power(power=1.0)).build(VOCAB, VOCAB - 1)
    noisy, clean = torch.tensor([[BLANK, 0, BLANK, BLANK]]), torch.tensor([[1, 0, 1, 1]])
    path = anchor(noisy, clean, torch.zeros_like(noisy, dtype=torch.bool), BLANK)
    assert path.left.tolist() == [[0, 0, 2, 2, 2]]
    raw = torch.full((1, 5, 3 + 2 * VOCAB), -torch.inf, dtype=torch.float64)
    raw[0, :, 3 + 1] = 0.0
    raw[0, 0, 0], raw[0, 2, 0] = inverse_softplus(torch.tensor([1.0, 2.0], dtype=torch.float64) / 0.5)
    raw[..., 3 + VOCAB :] = 0.0
    # one token missing in front, two of the same kind behind: these rates are the conditional ones, which cost nothing
    loss = family.objective.loss(raw, path, torch.tensor([[0.5]], dtype=torch.float64))
    torch.testing.assert_close(loss.sum(), torch.tensor(0.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("align", "edits"), [(shortest, 2), (padded, 2), (apart, 13)], ids=["shortest", "padded", "apart"]
)
def test_alignments_of_kitten_and_smitten(align, edits):
    noisy, clean = ([ord(c) for c in word] for word in ("kitten", "smitten"))
    left, right = align(noisy, clean, 0)
    assert [c for c in left if c] == noisy
    assert [c for c in right if c] == clean
    assert len(left) == len(right)
    if align is not padded:
        assert sum(a != b for a, b in zip(left, right, strict=True)) == edits


def test_guidance_of_no_weight_is_the_conditional_network():
    raw, other = torch.randn(2, 1, 4, 3 + 2 * VOCAB, dtype=torch.float64)
    gone = torch.full((1, 1), 0.3, dtype=torch.float64)
    one, two = parts(raw, gone), parts(other, gone)
    for ours, theirs in zip(parts(guided(raw, other, 0.0), gone), one, strict=True):
        torch.testing.assert_close(ours, theirs)
    rates, inserted, _ = parts(guided(raw, other, 0.5), gone)
    torch.testing.assert_close(rates, one[0] ** 1.5 * two[0] ** -0.5)
    torch.testing.assert_close(inserted, (1.5 * one[1] - 0.5 * two[1]).log_softmax(-1))
