"""Rules on a grid of times: steps reach open columns only, and the last one closes the window."""

import torch

from mezzotint.decode.canvas import Span, Step, infill
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.decode.samplers.time_grid import LatentGrid, TimeGrid
from mezzotint.rng import Rng


def prior(shape, device, rng):
    return torch.full(shape, 9)


def step(t, s, size=4, start=0):
    rows = torch.zeros(2, dtype=torch.long)
    return Step(Span(rows + start, size), rows, 0, torch.full((2, 1), t), torch.full((2, 1), s))


def blank():
    return infill([[1, None, 2, None], [None, None, None, 3]], prior)


def test_fixed_columns_keep_their_tokens_and_open_ones_move():
    seen = []

    def update(raw, x, t, s, rng):
        seen.append((float(t[0]), float(s[0])))
        return x - 1 + raw[..., 0].long() * 0

    after = TimeGrid(update)(torch.zeros(2, 4, 1), blank(), step(1.0, 0.5), Rng(0))
    assert after.tokens.tolist() == [[1, 8, 2, 8], [8, 8, 8, 3]]
    assert after.open.tolist() == blank().open.tolist()
    done = TimeGrid(update)(torch.zeros(2, 4, 1), after, step(0.5, 0.0), Rng(0))
    assert not done.open.any()
    assert done.tokens.tolist() == [[1, 7, 2, 7], [7, 7, 7, 3]]
    assert done.born.tolist() == [[-1, 1, -1, 1], [1, 1, 1, -1]]
    assert done.score.tolist() == [[0, 1, 0, 1], [1, 1, 1, 0]]
    assert seen == [(1.0, 0.5), (0.5, 0.0)]


def test_a_window_leaves_the_rest_alone():
    after = TimeGrid(lambda raw, x, t, s, rng: x * 0)(torch.zeros(2, 2, 1), blank(), step(1.0, 0.0, 2, 1), Rng(0))
    assert after.tokens.tolist() == [[1, 0, 2, 9], [9, 0, 0, 3]]
    assert after.open.tolist() == [[False, False, False, True], [True, False, False, False]]


def test_scores_are_those_of_the_written_tokens():
    raw = torch.randn(2, 4, 10, generator=torch.Generator().manual_seed(0))
    after = TimeGrid(
        lambda raw, x, t, s, rng: raw.argmax(-1), lambda raw, tokens: raw.gather(-1, tokens[..., None])[..., 0]
    )(raw, blank(), step(1.0, 0.0), Rng(0))
    opened = blank().open
    torch.testing.assert_close(after.score[opened], raw.amax(-1)[opened])


def test_vectors_move_and_tokens_show_what_they_round_to():
    table = torch.eye(10)
    canvas = blank()
    canvas.latent = torch.where(canvas.open[..., None], torch.zeros(2, 4, 10), table[canvas.tokens])
    target = table[torch.tensor([[5, 5, 5, 6], [7, 8, 7, 8]])]
    rule = LatentGrid(
        lambda raw, z, t, s, rng: z + (raw - z) * (t - s)[..., None] / t[..., None], lambda z: (10 * z).log_softmax(-1)
    )
    after = rule(target, canvas, step(1.0, 0.5), Rng(0))
    assert after.tokens.tolist() == [[1, 5, 2, 6], [7, 8, 7, 3]]
    torch.testing.assert_close(after.latent[0, 1], table[5] / 2)
    torch.testing.assert_close(after.latent[0, 0], table[1])
    done = rule(target, after, step(0.5, 0.0), Rng(0))
    torch.testing.assert_close(done.latent[1, 1], table[8])
    assert not done.open.any()


def test_a_plan_runs_a_grid_to_its_end():
    times = []

    def update(raw, x, t, s, rng):
        times.append((round(float(t[0]), 3), round(float(s[0]), 3)))
        return raw.argmax(-1)

    raw = torch.zeros(2, 4, 10).index_fill_(-1, torch.tensor([4]), 1.0)
    *_, last = decode(blank(), lambda canvas, step: raw[:, : step.window.size], TimeGrid(update), Blocks(4, 4))
    assert last.tokens.tolist() == [[1, 4, 2, 4], [4, 4, 4, 3]]
    assert [t for t, _ in times] == [1.0, 0.75, 0.5, 0.25]
    assert times[-1][1] == 0
