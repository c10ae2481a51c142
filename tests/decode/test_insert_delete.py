"""Insertions and deletions on canvases of fixed width, against lists of Python."""

import itertools

import pytest
import torch

from mezzotint.decode.samplers.insert_delete import Whole, anchored, fill, flood, room, splice, text
from mezzotint.errors import CanvasError

BLANK, NEW = 9, 7


def by_hand(tokens, fixed, keep, inserts):
    """One row, as lists: holes between fixed columns, each packed to its left, insertions left out from the right."""
    width, out, column = len(tokens), [], 0
    while column < width:
        if fixed[column] or column == 0:
            out.append(tokens[column])
            column += 1
            held = tokens[column - 1] != BLANK or column == 1
            entries = [(True, inserts[column - 1] if held else 0)]
        end = column
        while end < width and not fixed[end]:
            end += 1
        for at in range(column, end):
            if tokens[at] != BLANK:
                entries.append((tokens[at] if keep[at] else None, inserts[at]))
        free = (end - column) - sum(token is not None for token, _ in entries[1:])
        hole = []
        for token, count in entries:
            if token is not None and token is not True:
                hole.append(token)
            count = min(count, free) if end > column else 0
            free -= count
            hole += [NEW] * count
        out += hole + [BLANK] * (end - column - len(hole))
        column = end
    return out


@pytest.mark.parametrize("most", [1, 3])
def test_random_edits_match_lists(most):
    generator = torch.Generator().manual_seed(most)
    rows, width = 400, 9
    fixed = torch.rand(rows, width, generator=generator) < 0.25
    tokens = torch.randint(0, 5, (rows, width), generator=generator)
    tokens[torch.rand(rows, width, generator=generator) < 0.4] = BLANK
    tokens[:, 0] = BLANK
    # holes hold their tokens packed to the left, as every canvas does
    packed, *_ = splice(room(tokens, fixed, BLANK), tokens, torch.ones_like(fixed), torch.zeros_like(tokens), BLANK)
    keep = torch.rand(rows, width, generator=generator) < 0.7
    inserts = torch.randint(0, most + 1, (rows, width), generator=generator)

    held = room(packed, fixed, BLANK)
    after, first, counts = splice(held, packed, keep, inserts, BLANK)
    flooded = flood(after, first, counts, NEW)
    for row in range(rows):
        wanted = by_hand(*(x[row].tolist() for x in (packed, fixed, keep, inserts)))
        assert flooded[row].tolist() == wanted
    if most == 1:
        assert torch.equal(fill(after, first, counts, torch.full_like(tokens, NEW)), flooded)


def test_anchored_rows_of_different_lengths():
    canvas = anchored([[1, None, None, 2], [None]], BLANK)
    assert canvas.tokens.tolist() == [[BLANK, 1, BLANK, BLANK, 2], [BLANK] * 5]
    assert canvas.fixed.tolist() == [[True, True, False, False, True], [True, False, True, True, True]]
    assert text(canvas, BLANK) == [[1, 2], []]


def test_a_plan_over_the_whole_canvas():
    steps = list(Whole(4)(anchored([[None, None]], BLANK)))
    assert [float(step.t[0, 0]) for step in steps] == pytest.approx([1, 2 / 3, 1 / 3, 1e-3], abs=1e-3)
    assert all(torch.equal(one.s, two.t) for one, two in itertools.pairwise(steps))
    assert float(steps[-1].s.max()) == 0
    assert all(step.window.size == 3 for step in steps)
    with pytest.raises(CanvasError, match="in 0 steps"):
        Whole(0)
