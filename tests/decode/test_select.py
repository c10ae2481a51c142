"""A selector must commit something, only open columns, and exactly as many as its rule allows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mezzotint.decode.select import Above, EntropyBound, Factor, OnTime, Top, leftmost, most_confident, rank, reveal

SELECTORS = [
    most_confident,
    leftmost,
    Top(2),
    Above(0.5),
    Above(1.0),
    Factor(1.0),
    Factor(0.0),
    EntropyBound(0.1),
    EntropyBound(0.0, inclusive=True),
    OnTime(Above(0.9)),
]


@st.composite
def situations(draw, low=0.0, high=1.0, worst=True):
    """(score, open, budget) with many ties, and -inf scores unless the rule cannot meet them."""
    rows, width = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    values = st.one_of(
        st.sampled_from([low, (low + high) / 2, high]), st.floats(low, high, width=32, allow_subnormal=False)
    )
    if worst:
        values = st.one_of(values, st.just(-torch.inf))
    score = [[draw(values) for _ in range(width)] for _ in range(rows)]
    open = [[draw(st.booleans()) for _ in range(width)] for _ in range(rows)]
    budget = [draw(st.integers(0, width + 1)) for _ in range(rows)]
    return torch.tensor(score), torch.tensor(open), torch.tensor(budget)


@pytest.mark.parametrize("select", SELECTORS, ids=repr)
@given(situations())
@settings(max_examples=60, deadline=None)
def test_something_open_is_committed_and_nothing_else(select, situation):
    score, open, budget = situation
    commit = select(score, open, budget)
    assert not (commit & ~open).any()
    assert torch.equal(commit.any(-1), open.any(-1))


@pytest.mark.parametrize("select", SELECTORS, ids=repr)
@given(situations())
@settings(max_examples=30, deadline=None)
def test_a_row_does_not_depend_on_its_neighbours(select, situation):
    together = select(*situation)
    alone = [select(*(x[i : i + 1] for x in situation)) for i in range(len(situation[0]))]
    assert torch.equal(together, torch.cat(alone))


@given(situations(), st.floats(1.0, 2.0))
def test_a_threshold_no_score_can_pass_commits_the_surest_column_only(situation, tau):
    score, open, budget = situation
    assert torch.equal(Above(tau)(score, open, budget), most_confident(score, open, torch.ones_like(budget)))


@given(situations(low=0.0, worst=False), st.floats(0.0, 4.0, width=32, allow_subnormal=False))
def test_factor_commits_the_largest_number_that_its_bound_allows(situation, f):
    score, open, budget = situation
    commit = Factor(f)(score, open, budget)
    for c, free, chosen in zip(score, open, commit, strict=True):
        ordered = c[free].sort(descending=True).values
        allowed = [n for n in range(1, len(ordered) + 1) if (n + 1) * (1 - ordered[n - 1]) < f]
        count = int(chosen.sum())
        assert count == max([*allowed, 1] if len(ordered) else [0])
        if count > 1:
            assert (count + 1) * (1 - ordered[count - 1]) < f
        if count < len(ordered):
            assert not (count + 2) * (1 - ordered[count]) < f


@given(situations(low=-2.0, high=-0.0078125))
def test_an_entropy_bound_of_zero_commits_one_column(situation):
    score, open, budget = situation
    assert torch.equal(EntropyBound(0.0)(score, open, budget).sum(-1), open.any(-1).long())


def test_an_entropy_bound_of_zero_commits_all_columns_without_entropy():
    score, open = torch.tensor([[0.0, -0.5, 0.0, -0.2]]), torch.ones(1, 4, dtype=torch.bool)
    # the two certain columns, and one more: its own entropy is the largest of the run and not counted
    assert EntropyBound(0.0)(score, open, torch.ones(1)).tolist() == [[True, False, True, True]]
    assert EntropyBound(0.0, inclusive=True)(score, open, torch.ones(1)).tolist() == [[True, False, True, False]]


@given(situations(low=-2.0, high=0.0))
def test_an_infinite_entropy_bound_commits_everything(situation):
    score, open, budget = situation
    assert torch.equal(EntropyBound(torch.inf)(score, open, budget), open)


@given(situations(low=-3.0, high=0.0, worst=False), st.floats(0.0, 4.0, width=32, allow_subnormal=False), st.booleans())
def test_an_entropy_bound_takes_the_longest_run_within_it(situation, gamma, inclusive):
    score, open, budget = situation
    commit = EntropyBound(gamma, inclusive)(score, open, budget)
    for c, free, chosen in zip(score, open, commit, strict=True):
        nats = (-c[free]).sort().values.tolist()
        spent = [torch.tensor(nats[: n if inclusive else n - 1]).cumsum(0)[-1:].sum() for n in range(1, len(nats) + 1)]
        allowed = [n for n, total in enumerate(spent, 1) if total <= gamma]
        assert int(chosen.sum()) == max([*allowed, 1] if nats else [0])


@given(situations(), st.floats(0.0, 1.0, width=32, allow_subnormal=False))
def test_a_budget_of_one_adds_nothing_to_a_threshold(situation, tau):
    score, open, budget = situation
    one = torch.ones_like(budget)
    assert torch.equal(OnTime(Above(tau))(score, open, one), Above(tau)(score, open, one))


@given(situations())
def test_the_budget_is_kept_wherever_enough_is_open(situation):
    score, open, budget = situation
    want = torch.minimum(budget, open.sum(-1))
    assert (OnTime(Above(0.9))(score, open, budget).sum(-1) >= want).all()
    assert torch.equal(most_confident(score, open, budget).sum(-1), torch.minimum(budget.clamp_min(1), open.sum(-1)))


def test_numbers_may_differ_between_requests():
    score = torch.tensor([[0.9, 0.8, 0.1]]).expand(2, -1)
    open, budget = torch.ones(2, 3, dtype=torch.bool), torch.ones(2, dtype=torch.long)
    assert Above(torch.tensor([[0.85], [0.5]]))(score, open, budget).tolist() == [
        [True, False, False],
        [True, True, False],
    ]


def test_ties_go_to_the_left_and_closed_columns_come_last():
    score = torch.tensor([[0.5, 0.9, 0.5, -torch.inf]])
    open = torch.tensor([[True, False, True, True]])
    assert rank(score, open).tolist() == [[0, 3, 1, 2]]


def test_a_masked_token_is_revealed_by_time_zero_and_keeps_its_marginal_before():
    a_t, a_s = torch.tensor([[0.3]]), torch.tensor([[0.6]])
    torch.testing.assert_close(reveal(a_t, torch.ones(1, 1)), torch.ones(1, 1))
    for sigma in (0.0, 0.2, 0.4):
        survived = a_t * (1 - sigma) + (1 - a_t) * reveal(a_t, a_s, sigma)
        torch.testing.assert_close(survived, a_s)
