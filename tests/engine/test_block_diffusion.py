"""Block diffusion: every rule writes, blocks of every size, and correction ties it to the network."""

import math

import pytest
from running import draft_with, engine_of, events, finished, network, one_by_one, written
from tiny_hybrid import BACKENDS, checkpoint, drafter, drafting, prompts

from mezzotint.engine.events import Settled, Wrote
from mezzotint.engine.request import Request, Sampling
from mezzotint.errors import ConfigError, MezzotintError, RequestError
from mezzotint.models import hybrid

NONE: frozenset[int] = frozenset()
RULES = {"threshold": 0.1, "factor": 0.5, "entropy": 2.0, "topk": 2}
PROMPTS = prompts(3, seed=9)


def run(kind, request, backend="native", **options):
    causal = network(backend)
    return events(engine_of(causal, draft_with(kind, causal, request), NONE), request, hybrid.diffusion(**options))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("block", [1, 3, 6, 17])
def test_every_rule_writes_with_blocks_of_every_size(backend, rule, block):
    numbers = {"rule": rule, "level": RULES[rule], "block": block}
    for correct in (True, False):
        got = run("random", Request(PROMPTS[0], 19), backend, correct=correct, **numbers)
        assert finished(got).tokens == len(written(got)) == 19
        assert all(0 <= score <= 1 for event in got if isinstance(event, Wrote) for score in event.scores)


@pytest.mark.parametrize("rule", RULES)
def test_rules_have_numbers_of_their_own(rule):
    assert finished(run("random", Request(PROMPTS[0], 9), rule=rule)).tokens == 9


@pytest.mark.parametrize(
    ("backend", "kind"), [("native", k) for k in ("random", "mixed", "wrong", "right")] + [("eager", "random")]
)
@pytest.mark.parametrize("block", [1, 4, 7])
def test_accepting_only_the_first_choice_writes_the_greedy_text(backend, kind, block):
    for prompt in PROMPTS:
        request = Request(prompt, 23)
        assert written(run(kind, request, backend, block=block, accept=1.0)) == one_by_one(network(backend), request)


@pytest.mark.parametrize("rule", RULES)
def test_a_drafter_that_knows_writes_the_greedy_text_in_blocks(rule):
    for prompt in PROMPTS:
        request = Request(prompt, 23)
        for accept in (0.3, 1.0):
            got = run("right", request, rule=rule, block=5, accept=accept)
            assert written(got) == one_by_one(network("native"), request)
            assert finished(got).forwards == math.ceil(22 / 5)


def test_without_correction_whole_blocks_are_settled():
    got = run("random", Request(PROMPTS[0], 1 + 4 * 5), block=4, steps=4, correct=False, gate=0.0)
    drafts, settled, last = [], [], ()
    for event in got:
        if isinstance(event, Wrote):
            last = event.tokens
        elif isinstance(event, Settled):
            drafts.append(last)
            settled.append(event.tokens)
    assert [len(tokens) for tokens in settled] == [1, 4, 4, 4, 4, 4]
    assert drafts[1:] == [tokens[:-1] for tokens in settled[1:]]
    assert finished(got).forwards == 5


def test_no_row_is_spent_on_a_column_that_is_too_doubtful():
    request = Request(PROMPTS[0], 25)
    got = run("random", request, steps=6, correct=False, level=0.0, gate=0.3)
    drafts, blocks = [], []
    for event in got:
        if isinstance(event, Wrote):
            drafts.append(event.scores)
        elif isinstance(event, Settled):
            blocks.append(len(event.tokens) - 1)
    expected = [sum(math.prod(scores[: i + 1]) >= 0.3 for i in range(len(scores))) for scores in drafts]
    assert blocks[1 : 1 + len(expected)] == expected  # a last block may have room for its anchor only
    assert 0 < sum(expected) < 5 * len(expected)


def test_columns_that_are_open_after_the_last_step_are_left_to_the_next_block():
    request = Request(PROMPTS[0], 1 + 3 * 7)
    got = run("right", request, rule="topk", level=2, steps=1, block=6)
    sizes = [len(event.tokens) for event in got if isinstance(event, Settled)]
    assert max(sizes) == 3
    assert finished(got).forwards == len(sizes) - 1 >= 7
    assert written(got) == one_by_one(network("native"), request)


def test_accepting_everything_is_no_correction():
    request = Request(PROMPTS[1], 21)
    assert written(run("random", request, accept=0.0)) == written(run("random", request, correct=False))


@pytest.mark.parametrize(("level", "steps"), [(1, 5), (2, 3), (5, 1), (9, 1)])
def test_topk_takes_so_many_columns_a_step(level, steps):
    """Five columns beside the anchor: the drafter looks again between steps, not before the first."""
    causal, request = network("native"), Request(PROMPTS[0], 7)
    mode = hybrid.diffusion(rule="topk", level=level, block=6)
    looks = []
    made = draft_with("right", causal, request)
    look = made.look
    made.look = lambda known: looks.append(list(known)) or look(known)
    got = events(engine_of(causal, made, NONE), request, mode)
    # the oracle's own read looks once; the last block has one token and no column
    decided = [known for known in looks if any(token >= 0 for token in known)]
    assert len(decided) == steps - 1
    assert written(got) == one_by_one(causal, request)


def test_what_is_sampled_depends_on_the_seed_alone():
    texts = [
        written(run("random", Request(PROMPTS[0], 20, Sampling(1.0, 1.0, seed)), block=4)) for seed in (1, 1, 2, 3)
    ]
    assert texts[0] == texts[1]
    assert len({tuple(text) for text in texts}) == 3


@pytest.mark.parametrize("block", [63, 64])
def test_the_longest_blocks_fit_one_pass(block):
    causal = network("native")
    engine = engine_of(causal, drafting(drafter(checkpoint()), causal), NONE)
    got = events(engine, Request(PROMPTS[0], 130), hybrid.diffusion(block=block, correct=False, level=0.0, gate=0.0))
    assert finished(got).tokens == 130
    assert finished(got).forwards == math.ceil(129 / block)


@pytest.mark.parametrize(
    "options",
    [
        {"block": 0},
        {"block": 65},
        {"block": -3},
        {"steps": 0},
        {"accept": 1.5},
        {"accept": -0.1},
        {"accept": math.nan},
        {"gate": 1.5},
        {"gate": math.nan},
        {"level": 1.5},
        {"level": -0.1},
        {"level": math.nan},
        {"rule": "topk", "level": 0.5},
        {"rule": "factor", "level": math.inf},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(RequestError):
        hybrid.diffusion(**options)


def test_an_unknown_rule_is_told_with_those_that_are_known():
    with pytest.raises(ConfigError, match="threshold, factor, entropy, topk") as caught:
        hybrid.diffusion(rule="surest")
    assert isinstance(caught.value, MezzotintError)
