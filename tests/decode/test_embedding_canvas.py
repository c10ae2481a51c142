"""Canvases of vectors begin with noise, are read with their columns' times, and carry estimates from step to step."""

import pytest
import torch
from torch import nn

from mezzotint.decode.canvas import infill
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.decode.samplers.ddpm import GaussianReverse
from mezzotint.decode.samplers.embedding_canvas import Noting, begin, of_length, one_time, reading, unread, vectors
from mezzotint.decode.samplers.time_grid import LatentGrid
from mezzotint.errors import CanvasError
from mezzotint.processes.gaussian import Gaussian, fresh, scaled
from mezzotint.processes.gaussian_schedules import Respaced, Table, cosine

STEPS = 50
ROWS = [[1, None, 2, None], [None, None, None, 3]]


def process():
    return Gaussian(scaled(fresh(5, 3)), Table.of(cosine(STEPS)))


class Telling(nn.Module):
    """Answers token 4's embedding, and remembers what it was asked."""

    def __init__(self, target):
        super().__init__()
        self.target, self.asked = target, []

    def forward(self, inputs, t):
        self.asked.append((inputs.x, t))
        return self.target.expand(*inputs.x.shape[:2], -1)


def run(net, gauss, rule, canvas, plan, **reader):
    with torch.no_grad():
        return list(decode(canvas, reading(net, **reader), rule, plan))


def rule_of(gauss, **more):
    return LatentGrid(GaussianReverse(gauss, **more), gauss.round)


def test_given_columns_hold_embeddings_and_open_ones_noise():
    gauss = process()
    canvas = begin(ROWS, gauss)
    torch.testing.assert_close(canvas.latent[0, 0], gauss.table[1].detach())
    assert canvas.tokens[0].tolist()[::2] == [1, 2]
    assert 0.2 < float(canvas.latent[canvas.open].std()) < 2


def test_the_noise_of_a_row_is_its_own():
    gauss = process()
    together, alone = begin(ROWS, gauss, [7, 8]), begin(ROWS[1:], gauss, [8])
    torch.testing.assert_close(together.latent[1], alone.latent[0])


def test_a_run_ends_at_the_estimate_and_leaves_given_columns():
    gauss = process()
    net = Telling(gauss.table[4].detach())
    *_, last = run(net, gauss, rule_of(gauss), begin(ROWS, gauss), Blocks(4, 10))
    assert last.tokens.tolist() == [[1, 4, 2, 4], [4, 4, 4, 3]]
    assert not last.open.any()
    torch.testing.assert_close(last.latent[0, 1], gauss.table[4].detach())
    torch.testing.assert_close(last.latent[0, 0], gauss.table[1].detach())


def test_the_network_is_told_each_columns_time_or_one():
    gauss = process()
    for clock, want in (({}, [0, 1, 0, 1]), ({"clock": one_time}, [1])):
        net = Telling(gauss.table[4].detach())
        run(net, gauss, rule_of(gauss), begin(ROWS, gauss), Blocks(4, 10), **clock)
        assert net.asked[0][1][0].tolist() == want


def test_respaced_times_are_those_of_the_kept_steps():
    gauss = process()
    net = Telling(gauss.table[4].detach())
    run(net, gauss, rule_of(gauss), begin(ROWS, gauss), Blocks(4, 5, times=Respaced(STEPS)), clock=one_time)
    told = [round(float(t[0, 0]) * STEPS) for _, t in net.asked]
    assert told == [50, 38, 25, 13, 1]


def test_estimates_are_read_in_the_next_step():
    gauss = process()
    net = Telling(gauss.table[4].detach())
    canvas = unread(begin([[None] * 4] * 2, gauss))
    run(net, gauss, Noting(rule_of(gauss)), canvas, Blocks(4, 3))
    assert not net.asked[0][0][..., 3:].any()
    for x, _ in net.asked[1:]:
        torch.testing.assert_close(x[..., 3:], gauss.table[4].detach().expand(2, 4, -1))


def test_clamped_steps_move_towards_embeddings_only():
    gauss = process()
    between = (gauss.table[1] + 0.4 * (gauss.table[2] - gauss.table[1])).detach()
    *_, last = run(Telling(between), gauss, rule_of(gauss, clamp=0.5), begin(ROWS, gauss), Blocks(4, 10))
    want = gauss.nearest(between[None, None])[0, 0].detach()
    torch.testing.assert_close(last.latent[0, 1], want)


def test_a_length_is_an_end_in_place_and_padding_behind_it():
    assert of_length([[None] * 4, [1, None, None, None]], 2, 8, 9) == [[None, None, 8, 9], [1, None, 8, 9]]
    with pytest.raises(CanvasError, match="after 4 tokens on a canvas of 4"):
        of_length([[None] * 4], 4, 8, 9)


def test_a_canvas_without_vectors_is_refused():
    with pytest.raises(CanvasError, match="holds tokens only"):
        vectors(infill([[None]], lambda shape, device, rng: torch.zeros(shape, dtype=torch.long)))
