"""Self-correction with networks that know the source: texts get likelier, and rest where nothing is wrong."""

import pytest
import torch

from mezzotint.decode.canvas import infill
from mezzotint.decode.loop import decode
from mezzotint.decode.samplers.self_correction import CorrectionPasses, SelfCorrection
from mezzotint.errors import CanvasError
from mezzotint.processes.mixture import Mixture

STEP = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
"""A chain whose tokens like to stay what they are."""
MASK, COLUMNS = 3, 8
PRIOR = Mixture(4, MASK, 0.2).prior


def denoise(canvas, step):
    """log p(column | its neighbours)."""
    x = torch.nn.functional.one_hot(canvas.tokens, 4)[..., :3].float()
    neighbours = x @ STEP.log()
    raw = torch.zeros_like(neighbours)
    raw[:, 1:] += neighbours[:, :-1]
    raw[:, :-1] += neighbours[:, 1:]
    return torch.nn.functional.pad(raw, (0, 1), value=50.0)


def canvas_of(rows, given=()):
    tokens = torch.tensor(rows)
    canvas = infill([[row[c] if c in given else None for c in range(COLUMNS)] for row in rows], PRIOR)
    canvas.tokens, canvas.open = tokens, torch.zeros_like(canvas.open)
    return canvas


def likelihood(tokens):
    return STEP.log()[tokens[:, :-1], tokens[:, 1:]].sum(-1)


def corrected(canvas, passes=64, **changes):
    return list(decode(canvas, denoise, SelfCorrection(MASK, **changes), CorrectionPasses(passes=passes)))


def test_texts_become_likelier_and_never_hold_the_mask():
    torch.manual_seed(0)
    rows = torch.randint(0, 3, (64, COLUMNS)).tolist()
    found = corrected(canvas_of(rows))[-1].tokens
    assert (found != MASK).all()
    assert likelihood(found).mean() > likelihood(torch.tensor(rows)).mean() + 5
    # no row agrees less with the network than it did
    before, after = (
        (denoise(canvas_of(x), None)[..., :3].argmax(-1) == torch.tensor(x)).double().mean(-1)
        for x in (rows, found.tolist())
    )
    assert (after >= before).all()


def test_a_single_wrong_token_is_found_and_nothing_else_is_touched():
    wrong, right = [1] * 3 + [2] + [1] * 4, [1] * COLUMNS
    steps = corrected(canvas_of([wrong, right]), temperature=0.01)
    assert steps[-1].tokens.tolist() == [right, right]
    assert (steps[-1].born[0] >= 0).nonzero().tolist() == [[3]]
    # one pass that writes, one that finds nothing; the right text needs only the latter
    assert len(steps) == 2


def test_given_columns_stay_and_rows_do_not_depend_on_each_other():
    torch.manual_seed(1)
    rows = torch.randint(0, 3, (5, COLUMNS)).tolist()
    together = corrected(canvas_of(rows, given=(0, 4)), patience=4)[-1].tokens
    assert together[:, [0, 4]].tolist() == [[row[0], row[4]] for row in rows]
    alone = corrected(canvas_of(rows[:1], given=(0, 4)), patience=4)[-1].tokens
    assert together[:1].tolist() == alone.tolist()


def test_rows_without_progress_end_after_their_patience():
    steps = corrected(canvas_of([[0, 1, 2, 0, 1, 2, 0, 1]]), passes=500, temperature=20.0, patience=3)
    assert len(steps) < 100
    assert steps[-1].tokens.tolist() == steps[-1].notes[0].tolist()


def test_noise_is_not_corrected():
    with pytest.raises(CanvasError, match="finished texts"):
        corrected(infill([[None] * COLUMNS], PRIOR))
