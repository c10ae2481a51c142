"""Every way to start a canvas gives the same three things: what is fixed, what is open, where the noise is."""

import pytest
import torch

from mezzotint.decode.canvas import edit, infill, resume, write
from mezzotint.errors import CanvasError
from mezzotint.processes.absorbing import Absorbing
from mezzotint.schedules import Linear

MASK = 11
PRIOR = Absorbing(12, MASK, Linear()).prior


def test_answers_start_where_their_prompt_ends():
    canvas = write([[1, 2, 3], [4]], 2, PRIOR)
    assert canvas.tokens.tolist() == [[1, 2, 3, MASK, MASK], [4, MASK, MASK, 0, 0]]
    assert canvas.open.tolist() == [[False] * 3 + [True] * 2, [False, True, True, False, False]]
    assert torch.equal(canvas.fixed, ~canvas.open)


def test_a_mask_token_in_the_prompt_is_text():
    canvas = write([[1, MASK, 2]], 1, PRIOR)
    assert canvas.tokens.tolist() == [[1, MASK, 2, MASK]]
    assert canvas.open.tolist() == [[False, False, False, True]]


def test_an_edit_opens_its_spans_and_keeps_the_rest():
    canvas = edit([[1, 2, 3, 4, 5]], [[(1, 2), (3, 5)]], PRIOR)
    assert canvas.tokens.tolist() == [[1, MASK, 3, MASK, MASK]]
    assert canvas.open.tolist() == [[False, True, False, True, True]]


def test_resuming_opens_columns_behind_each_answer_and_keeps_what_was_written():
    canvas = write([[1, 2, 3], [4]], 2, PRIOR)
    canvas.tokens[0, 3], canvas.open[0, 3], canvas.born[0, 3] = 9, False, 0
    longer = resume(canvas, 2, PRIOR)
    assert longer.tokens.tolist() == [[1, 2, 3, 9, MASK, MASK, MASK], [4, MASK, MASK, MASK, MASK, 0, 0]]
    assert longer.open.long().tolist() == [[0, 0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 0, 0]]
    assert longer.fixed.long().tolist() == [[1, 1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1, 1]]
    assert longer.born[0].tolist() == [-1, -1, -1, 0, -1, -1, -1]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: write([[1]], 0, PRIOR), "cannot write 0 tokens"),
        (lambda: write([[1]], -4, PRIOR), "cannot write -4 tokens"),
        (lambda: write([], 4, PRIOR), "without rows"),
        (lambda: infill([[1, 2]], PRIOR), "no open column"),
        (lambda: infill([[1, None]], PRIOR, seeds=[1, 2]), "1 texts came with 2 seeds"),
        (lambda: edit([[1, 2]], [[(1, 1)]], PRIOR), "columns 1 to 1"),
        (lambda: edit([[1, 2]], [[(1, 3)]], PRIOR), "a text of 2 tokens"),
        (lambda: edit([[1, 2]], [], PRIOR), "0 lists of spans"),
        (lambda: resume(write([[1]], 2, PRIOR), 0, PRIOR), "by 0 tokens"),
    ],
)
def test_a_canvas_that_cannot_be_laid_out_is_refused_with_a_sentence(make, sentence):
    with pytest.raises(CanvasError, match=sentence):
        make()
