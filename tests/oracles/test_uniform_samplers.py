"""Samplers of scores, uniform and hybrid noise against exactly solvable models, by chi-square.

A network of random answers over two columns is a model whose every step is a matrix over all pairs of ids; the product
of these matrices is what its sampler must draw.  On a single column exact answers draw the source at any number of
steps.
"""

import itertools

import pytest
import torch
from sources import PAIR, TOKEN
from strings import chi_square, last

from mezzotint.decode.canvas import infill
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.decode.samplers.psi_samplers import Kappa, ListedKappa, Profile
from mezzotint.decode.samplers.remdm import Loop, Rescale
from mezzotint.families import gidd, udlm
from mezzotint.families.duo import Duo
from mezzotint.families.gidd import GIDD
from mezzotint.families.remdm import ReMDM
from mezzotint.families.sedd import SEDD
from mezzotint.families.udlm import UDLM
from mezzotint.rng import Rng
from mezzotint.schedules import Geometric, Linear

VOCAB, MASK, COLUMNS, STEPS = PAIR.real + 1, PAIR.mask_id, PAIR.length, 4
STATES = torch.tensor(list(itertools.product(range(VOCAB), repeat=COLUMNS)))
REAL = (STATES != MASK).all(-1)
RAW = 1.5 * torch.randn(
    STEPS + 1, len(STATES), COLUMNS, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
)


def chances_of(family, step):
    """(raw, x_t, t, s) -> probabilities of x_s, rows of one."""

    def chances(raw, x_t, t, s):
        p = step(family)(raw, x_t, t, s)
        return p / p.sum(-1, keepdim=True)

    return chances


def own(family):
    return family.rule.update.chances


def of_udlm(family):
    return lambda raw, x_t, t, s: udlm.step(family.process, raw, x_t, t, s)


def of_gidd(family):
    return lambda raw, x_t, t, s: gidd.step(family.process, raw, x_t, t, s)


CASES = {
    "udlm": (UDLM(schedule=Linear(eps=0)), of_udlm),
    "duo": (Duo(schedule=Linear(eps=0)), own),
    "duo, psi": (Duo(schedule=Linear(eps=0), kappa=Kappa(kind="constant", eta=0.4)), own),
    "duo, rescaled": (Duo(kappa=Kappa(kind="rescaled", eta=0.5)), own),
    "gidd": (GIDD(uniform=0.2), of_gidd),
    "sedd, absorb": (SEDD(), own),
    "sedd, absorb, euler": (SEDD(sampler="euler"), own),
    "sedd, uniform": (SEDD(noise="uniform"), own),
    "sedd, uniform, euler": (SEDD(noise="uniform", schedule=Geometric(low=1e-2, high=4), sampler="euler"), own),
    "sedd, tokens": (SEDD(noise="uniform", answers="tokens"), own),
}
case = pytest.mark.parametrize(("settings", "step"), CASES.values(), ids=CASES)


def place(tokens):
    return tokens[..., 0] * VOCAB + tokens[..., 1]


def network(tokens, t):
    return RAW[(t[:, 0] * STEPS).round().long(), place(tokens)]


def joint(columns):
    return (columns[0][:, None] * columns[1]).flatten()


def distribution(family, step):
    """Float64[states]: what the model draws."""
    chances = chances_of(family, step)
    start = torch.bincount(family.process.prior((200, 2), None, Rng(0))[0], minlength=VOCAB) > 0
    masked = bool(start[MASK])
    begin = torch.zeros(COLUMNS, VOCAB, dtype=torch.float64)
    begin[:, MASK if masked else slice(0, MASK)] = 1 if masked else 1 / PAIR.real
    p = joint(begin)
    reachable = torch.ones_like(REAL) if masked else REAL
    for i in range(STEPS, 0, -1):
        t, s = (torch.full((len(STATES), 1), j / STEPS, dtype=torch.float64) for j in (i, i - 1))
        # what cannot be reached at t has no chances
        table = chances(network(STATES, t), STATES, t, s).nan_to_num(0.0)
        matrix = torch.stack([joint(columns) for columns in table])
        p = p[reachable] @ matrix[reachable]
    return p


def frequencies(family, rows=20_000):
    canvas = infill([[None] * COLUMNS] * rows, family.process.prior)
    plan = Blocks(COLUMNS, STEPS)
    written = last(decode(canvas, lambda c, step: network(c.tokens, step.t), family.rule, plan)).tokens
    return torch.bincount(place(written), minlength=len(STATES)).double()


@case
def test_a_sampler_draws_its_own_distribution(settings, step):
    family = settings.build(VOCAB, MASK)
    counts, p = frequencies(family), distribution(family, step)
    assert not counts[~REAL].any()
    assert float(p[REAL].sum()) == pytest.approx(1, abs=1e-6)
    assert chi_square(counts[REAL], p[REAL] / p[REAL].sum()) < 4


EXACT = {
    "udlm": UDLM(schedule=Linear(eps=0)),
    "duo, psi": Duo(schedule=Linear(eps=0), kappa=Kappa(kind="constant", eta=0.4)),
    "gidd": GIDD(uniform=0.3),
    "remdm": ReMDM(schedule=Linear(eps=0), strategy=Rescale(eta=0.5), nucleus=1.0),
    "remdm, loop": ReMDM(schedule=Linear(eps=0), strategy=Loop(eta=0.3), nucleus=1.0),
    "sedd, absorb": SEDD(answers="tokens", schedule=Linear(eps=1e-9)),
    "sedd, uniform": SEDD(answers="tokens", noise="uniform", schedule=Linear(eps=1e-9)),
}


@pytest.mark.parametrize("settings", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_one_column_is_exact_at_any_number_of_steps(settings, steps):
    family, rows = settings.build(TOKEN.real + 1, TOKEN.mask_id), 20_000
    raw = torch.cat([TOKEN.p.log(), torch.zeros(1)]).expand(rows, 1, -1)
    canvas = infill([[None]] * rows, family.process.prior)
    written = last(decode(canvas, lambda c, step: raw, family.rule, Blocks(1, steps))).tokens
    counts = torch.bincount(written[:, 0], minlength=TOKEN.real + 1).double()
    assert counts[TOKEN.mask_id] == 0
    assert chi_square(counts[: TOKEN.real], TOKEN.p) < 4


def test_a_profile_of_times_keeps_the_distribution():
    family, rows = Duo(schedule=Linear(eps=0), kappa=Kappa(kind="rescaled", eta=0.3)).build(4, 3), 20_000
    times = Profile().times(9)
    assert times[0] == 1
    assert (times.diff() <= 0).all()
    assert len(times) == 10
    raw = torch.cat([TOKEN.p.log(), torch.zeros(1)]).expand(rows, 1, -1)
    canvas = infill([[None]] * rows, family.process.prior)
    steps = list(decode(canvas, lambda c, step: raw, family.rule, ListedKappa(tuple(times.tolist()))))
    assert len(steps) == 10
    assert not steps[-1].open.any()
    counts = torch.bincount(steps[-1].tokens[:, 0], minlength=4).double()
    assert chi_square(counts[:3], TOKEN.p) < 4


def test_given_columns_stay():
    def seen(canvas, step):
        raw = network(canvas.tokens, step.t)
        return raw.gather(1, step.window.columns()[..., None].expand(-1, -1, VOCAB))

    for settings, _ in CASES.values():
        family = settings.build(VOCAB, MASK)
        canvas = infill([[1, None], [None, 2]] * 50, family.process.prior)
        written = last(decode(canvas, seen, family.rule, Blocks(COLUMNS, STEPS))).tokens
        assert (written[::2, 0] == 1).all()
        assert (written[1::2, 1] == 2).all()
        assert (written != MASK).all()
