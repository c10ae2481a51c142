"""Rules, plans and canvases together: whole decodings with a small table in place of a network."""

from itertools import pairwise

import pytest
import torch

from mezzotint.decode.canvas import Canvas, Step, infill, resume, write
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.decode.propose import Draw, entropy, likeliest, margin
from mezzotint.decode.revise import Doubtful, Remask
from mezzotint.decode.rule import Unmask, ancestral
from mezzotint.decode.select import Above, EntropyBound, Factor, OnTime, most_confident
from mezzotint.decode.shapers import Ban
from mezzotint.errors import ConfigError
from mezzotint.processes.absorbing import Absorbing
from mezzotint.schedules import Linear

VOCAB, MASK = 12, 11
SCHEDULE = Linear()
PRIOR = Absorbing(VOCAB, MASK, SCHEDULE).prior
BAN = Ban(torch.arange(VOCAB) == MASK)
SELECTORS = [most_confident, Above(0.2), Above(1.0), Factor(1.0), EntropyBound(0.5)]


def table(canvas: Canvas, step: Step) -> torch.Tensor:
    """Logits that depend on the column and on both neighbours, as a bidirectional network's do."""
    weights = torch.randn(64, 3 * VOCAB, VOCAB, generator=torch.Generator().manual_seed(5))
    seen = torch.nn.functional.one_hot(canvas.tokens, VOCAB).float()
    around = torch.cat([seen.roll(1, 1), seen, seen.roll(-1, 1)], -1)
    raw = torch.einsum("blk,lkv->blv", around, weights[: seen.shape[1]])
    return raw.gather(1, step.window.columns()[..., None].expand(-1, -1, VOCAB))


def run(canvas: Canvas, rule, plan) -> list[Canvas]:
    return list(decode(canvas, table, rule, plan))


@pytest.mark.parametrize("select", SELECTORS, ids=repr)
@pytest.mark.parametrize("propose", [likeliest, margin, entropy, Draw(0.8)], ids=repr)
def test_every_rule_fills_the_canvas_and_leaves_the_prompt_alone(propose, select):
    start = write([[1, MASK, 3], [4]], 11, PRIOR)
    path = run(start, Unmask(propose, select, shapers=(BAN,)), Blocks(4))
    end = path[-1]
    assert not end.open.any()
    assert torch.equal(end.tokens[start.fixed], start.tokens[start.fixed])
    assert (end.tokens[~start.fixed] != MASK).all()
    assert len(path) <= 11
    assert end.step.max() == len(path)


def test_a_threshold_of_one_is_one_token_per_step():
    start = write([[1, 2]], 10, PRIOR)
    careful = run(start, Unmask(likeliest, Above(1.0), shapers=(BAN,)), Blocks(4))
    single = run(start, Unmask(likeliest, most_confident, shapers=(BAN,)), Blocks(4))
    assert len(careful) == len(single) == 10
    assert torch.equal(careful[-1].tokens, single[-1].tokens)
    assert torch.equal(careful[-1].born, single[-1].born)


def test_a_step_writes_inside_its_window_only():
    before = write([[1, 2]], 10, PRIOR)
    for after in run(before, Unmask(likeliest, Above(0.2), shapers=(BAN,)), Blocks(3)):
        changed = (after.tokens != before.tokens).nonzero()[:, 1].tolist()
        block = (before.open[0].long().argmax().item() - 2) // 3
        assert changed
        assert all((column - 2) // 3 == block for column in changed)
        before = after


@pytest.mark.parametrize("propose", [likeliest, Draw(1.0)], ids=repr)
def test_a_row_does_not_depend_on_its_neighbours_or_their_prompts(propose):
    prompts, seeds = [[1, 2, 3], [4], [5, 6]], [7, 8, 9]
    rule = Unmask(propose, Above(0.3), shapers=(BAN,))
    together = run(write(prompts, 9, PRIOR, seeds), rule, Blocks(4, steps=4))[-1]
    for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        alone = run(write([prompt], 9, PRIOR, [seed]), rule, Blocks(4, steps=4))[-1]
        assert together.tokens[i, : len(prompt) + 8].tolist() == alone.tokens[0, : len(prompt) + 8].tolist()


def test_the_same_seed_gives_the_same_text_and_another_seed_another():
    rule = Unmask(Draw(1.0), most_confident, shapers=(BAN,))
    a, b, c = (run(write([[1]], 20, PRIOR, [seed]), rule, Blocks(5))[-1].tokens for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_infilling_writes_the_holes_and_nothing_else():
    start = infill([[1, None, 3, None, None, 6, 7, None]], PRIOR)
    end = run(start, Unmask(likeliest, Above(0.3), shapers=(BAN,)), Blocks(3))[-1]
    assert not end.open.any()
    assert torch.equal(end.tokens[start.fixed], start.tokens[start.fixed])


def test_writing_can_be_resumed():
    rule = Unmask(likeliest, Above(0.3), shapers=(BAN,))
    first = run(write([[1, 2], [3]], 4, PRIOR), rule, Blocks(4))[-1]
    longer = run(resume(first, 5, PRIOR), rule, Blocks(4))[-1]
    assert torch.equal(longer.tokens[0, :6], first.tokens[0])
    assert not longer.open.any()


def test_revisions_finish_when_the_budget_is_kept():
    for revise in (Doubtful(0.9), Remask(SCHEDULE, 0.3), Remask(SCHEDULE, 0.9, rescaled=True, doubtful=True)):
        rule = Unmask(likeliest, OnTime(Above(0.3)), revise, (BAN,), PRIOR)
        path = run(write([[1], [2, 3]], 16, PRIOR), rule, Blocks(8, steps=6))
        assert not path[-1].open.any()
        assert any((b.open & ~a.open).any() for a, b in pairwise(path)), revise


def test_doubt_leaves_one_column_more_decided_after_every_step():
    rule = Unmask(likeliest, Above(0.05), Doubtful(0.9), (BAN,), PRIOR, rescore=True)
    start = write([[1]], 12, PRIOR)
    left = [12, *[int(canvas.open.sum()) for canvas in run(start, rule, Blocks(12))]]
    assert left[-1] == 0
    assert all(after < before for before, after in pairwise(left))


def test_what_a_step_reopens_is_noise_again():
    rule = Unmask(likeliest, Above(0.05), Doubtful(1.1), (BAN,), PRIOR)
    for canvas in run(write([[1]], 12, PRIOR), rule, Blocks(12)):
        assert torch.equal(canvas.tokens == MASK, canvas.open)


def test_a_revision_needs_noise_to_reopen_with():
    with pytest.raises(ConfigError, match="prior"):
        Unmask(revise=Doubtful())


@pytest.mark.parametrize("remask", [None, Remask(SCHEDULE, 0.2), Remask(SCHEDULE, 0.9, rescaled=True)], ids=repr)
def test_the_ancestral_rule_keeps_the_expected_number_of_masks(remask):
    rows, length, steps = 60, 40, 8
    rule = ancestral(SCHEDULE, PRIOR, lambda raw, rng: likeliest(BAN(raw, start, None), rng), remask)
    start = write([[1]] * rows, length, PRIOR, range(rows))
    path = [canvas.open.float().sum(-1) / length for canvas in decode(start, table, rule, Blocks(length, steps))]
    for k, share in enumerate(path, 1):
        a_s = SCHEDULE.alpha(torch.tensor(1 - k / steps)).item()
        spread = (a_s * (1 - a_s) / (rows * length)) ** 0.5
        torch.testing.assert_close(share.mean().item(), 1 - a_s, atol=4 * spread + 1e-6, rtol=0)


def test_one_step_is_one_graph():
    rule = Unmask(likeliest, Above(0.5), shapers=(BAN,))
    canvas = write([[1, 2]], 8, PRIOR)
    step = next(Blocks(8)(canvas))

    def body(raw, tokens, open, score, born, count):
        now = Canvas(tokens, open, canvas.fixed, score, born, count, canvas.seed)
        after = rule(raw, now, step, now.rng)
        return after.tokens, after.open, after.score

    raw = table(canvas, step)
    inputs = (raw, canvas.tokens, canvas.open, canvas.score, canvas.born, canvas.step)
    compiled = torch.compile(body, fullgraph=True, backend="eager")
    for got, expected in zip(compiled(*inputs), body(*inputs), strict=True):
        torch.testing.assert_close(got, expected)
