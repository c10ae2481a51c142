"""After training no bound falls below the entropy, all come close to it, and more steps write better samples.

A wrong weight in a loss shows as a bound that is too good; a wrong sampler as samples that do not come nearer.
"""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from sources import PAIR
from strings import (
    BLANK,
    LONGEST,
    MASK,
    STRINGS,
    entropy,
    generated,
    last,
)
from training import Exact, Packed, Tiny, distances, mean, nats, noise, sequences, trained

from mezzotint.batch import Batch
from mezzotint.decode.loop import decode
from mezzotint.decode.samplers.insert_delete import Whole, anchored, text
from mezzotint.decode.samplers.psi_samplers import Kappa
from mezzotint.decode.samplers.remdm import Rescale
from mezzotint.families.d3pm import D3PM
from mezzotint.families.duo import Duo
from mezzotint.families.edit_flow import EditFlow
from mezzotint.families.flexmdm import FlexMDM
from mezzotint.families.flow_matching import FlowMatching
from mezzotint.families.gidd import GIDD
from mezzotint.families.mdlm import MDLM
from mezzotint.families.remdm import ReMDM
from mezzotint.families.sedd import SEDD
from mezzotint.families.udlm import UDLM
from mezzotint.layouts import Attend, Inputs
from mezzotint.processes.interpolating import pick
from mezzotint.processes.mixture_path import Power
from mezzotint.rng import Rng
from mezzotint.schedules import Linear

VOCAB = PAIR.real + 1


ROWS = 20_000
SLACK = 2.5 * noise(PAIR, ROWS)


def masks(process):
    """q(x_t | x_0) of masked columns, up to a factor: they say nothing, the others all."""
    return lambda x, t: torch.where((x == PAIR.mask_id)[..., None], 1.0, shown(x))


def interpolating(process):
    """q(x_t | x_0) of what survives and noise."""
    return lambda x, t: process.alpha(t)[..., None] * shown(x) + pick(process.noise(t), x)[..., None]


def path(process):
    """q(x_t | x_0) of a mixture path."""
    a = process.alpha
    return lambda x, t: a(t)[..., None] * shown(x) + ((1 - a(t)) * process.source[x])[..., None]


def chain(process):
    """q(x_t | x_0) of a chain of steps."""
    steps = process.index
    return lambda x, t: process.chain.backward(x, torch.zeros_like(steps(t)), steps(t))[..., : PAIR.real]


def shown(x):
    return torch.nn.functional.one_hot(x, VOCAB)[..., : PAIR.real].double()


@dataclass(frozen=True)
class Case:
    """A family, the likelihood that its best network knows, and which posterior that answers."""

    settings: Any
    likelihood: Any
    own: bool = False
    loose: float = 0.0
    """How far above the entropy the best bound lies, in nats per sequence."""


CASES = {
    "mdlm": Case(MDLM(schedule=Linear(eps=0)), masks),
    "d3pm, absorbing": Case(D3PM(steps=64), chain, loose=0.02),
    "d3pm, uniform": Case(D3PM(steps=64, transition="uniform", table="cosine", weight=0.0), chain, loose=0.02),
    "d3pm, uniform, even": Case(
        D3PM(steps=64, transition="uniform", table="cosine", weights="even"), chain, loose=0.02
    ),
    "d3pm, gaussian": Case(
        D3PM(steps=64, transition="gaussian", table="linear", high=0.7, weights="even"), chain, loose=0.03
    ),
    "d3pm, band": Case(
        D3PM(steps=64, transition="band", table="linear", high=0.15, width=3, weights="even"), chain, loose=0.03
    ),
    "d3pm, neighbours": Case(
        D3PM(
            steps=64,
            transition="neighbours",
            table="information",
            weights="even",
            counts=(5, 3, 2, 0),
            nearest=((1,), (2,), (0,), ()),
        ),
        chain,
        loose=0.08,
    ),
    "remdm": Case(ReMDM(schedule=Linear(eps=0), strategy=Rescale(eta=0.5), nucleus=1.0), masks),
    "udlm": Case(UDLM(), interpolating),
    "udlm, even": Case(UDLM(weights="even"), interpolating),
    "duo, psi": Case(Duo(kappa=Kappa(kind="constant", eta=0.8)), interpolating),
    "sedd, absorb": Case(SEDD(), masks),
    "sedd, uniform": Case(SEDD(noise="uniform"), interpolating),
    "gidd": Case(GIDD(uniform=0.2, weights="none"), interpolating),
    "flow matching, mask": Case(FlowMatching(), masks, own=True),
    "flow matching, cubic": Case(FlowMatching(schedule=Power(power=3.0)), masks, own=True),
    # each column's path jumps once only: 0.285 nats on a single token of this source
    "flow matching, uniform": Case(FlowMatching(source="uniform"), path, own=True, loose=0.6),
    "flow matching, reversal": Case(
        FlowMatching(source="uniform", sampler="reversal", loss="cross-entropy"), path, own=True
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bounds_stay_above_the_entropy_and_samples_are_as_near_as_bound_and_steps_allow(case):
    family = case.settings.build(VOCAB, PAIR.mask_id)
    exact = Exact(PAIR, case.likelihood(family.process), case.own)
    net = trained(Tiny(VOCAB, PAIR.length), family.objective, lambda step: sequences(PAIR, 256, step))
    held, objective = sequences(PAIR, 16384, 10**6), family.bound or family.objective
    ours, best = nats(net, objective, held), nats(exact, objective, held)
    least, error = mean(best)
    assert PAIR.entropy - 3 * error < least < PAIR.entropy + case.loose + 3 * error
    # under the same noise: what is left to learn is the divergence from the source to the model of many small steps
    excess, error = mean(ours - best)
    assert -3 * error < excess < 0.08
    learnt, known = (distances(n, family, PAIR, (1, 4, 16), ROWS) for n in (net, exact))
    # a step takes columns to be independent, an error of the order of its length: of many steps, four times as many
    # leave a quarter; of few, up to a half, and more of a cubic path, which decides most in its last quarter
    assert known[1] < 0.7 * known[0]
    assert known[2] < known[1] / 2 + SLACK
    # Pinsker: no total variation is above the root of half a divergence
    far = math.sqrt(max(excess + 2 * error, 0) / 2)
    assert all(ours < best + far + SLACK for ours, best in zip(learnt, known, strict=True))
    assert learnt[0] > learnt[1] > learnt[2] - SLACK


@pytest.mark.parametrize(
    ("settings", "out"),
    [(EditFlow(), 3 + 2 * BLANK), (FlexMDM(), BLANK + 1), (FlexMDM(weights="even"), BLANK + 1)],
    ids=["edit flow", "flexmdm", "flexmdm, even"],
)
def test_texts_of_any_length_are_learnt(settings, out):
    strings, p = list(STRINGS), torch.tensor(list(STRINGS.values()))
    padded = torch.tensor([[*string, *[BLANK] * (LONGEST - len(string))] for string in strings])

    def batch(rows, seed):
        tokens = padded[torch.multinomial(p, rows, True, generator=torch.Generator().manual_seed(seed))]
        return Batch(tokens, tokens != BLANK)

    family = settings.build(BLANK, MASK)
    net = Packed(Tiny(BLANK + 1, LONGEST + 1, out), BLANK)
    net = trained(net, family.objective, lambda step: batch(128, step), 700)

    with torch.no_grad():
        loss = (family.bound or family.objective)(net, batch(30_000, 10**6), Rng(2))
        nats = float(loss.total * loss.count) / 30_000
        assert entropy(STRINGS) - 0.03 < nats < entropy(STRINGS) + 0.15
        canvas = anchored([[None] * LONGEST] * 4000, BLANK)

        def denoise(canvas, step):
            columns = canvas.tokens.shape[1]
            return net(Inputs(canvas.tokens, torch.arange(columns), Attend(columns, columns)), step.t)

        found = [generated(text(last(decode(canvas, denoise, family.rule, Whole(n))), BLANK), STRINGS) for n in (3, 40)]
    few, many = (float((counts[:-1] / 4000 - p).abs().sum() + counts[-1] / 4000) / 2 for counts in found)
    assert many < min(few / 2, 0.12)
