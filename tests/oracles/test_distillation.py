"""Duo's consistency distillation, and what uniform noise teaches a network about its own token."""

import pytest
import torch
from sources import PAIR, TOKEN
from training import Tiny, bound, sequences, trained

from mezzotint.families.base import log_p
from mezzotint.families.duo import Duo
from mezzotint.families.udlm import UDLM
from mezzotint.layouts import Full
from mezzotint.objectives.duo import Consistency
from mezzotint.processes.gaussian_argmax import GaussianArgmax
from mezzotint.schedules import Linear

VOCAB = PAIR.real + 1


@pytest.mark.parametrize("ids", [2, 3, 27])
def test_survival_of_the_gaussian_twin_is_a_probability(ids):
    twin = GaussianArgmax(ids, -5.0, 2.0)
    alpha = twin.alpha(torch.linspace(0, 1, 5001, dtype=torch.float64)[:, None])
    assert 0 <= float(alpha.min()) <= float(alpha.max()) <= 1
    assert float(Linear().time(alpha).min()) >= 0


def test_distillation_brings_the_student_to_its_teacher():
    settings = Duo(schedule=Linear())
    family = settings.build(VOCAB, PAIR.mask_id)
    teacher = trained(Tiny(VOCAB, PAIR.length), family.objective, lambda step: sequences(PAIR, 256, step))
    twin = GaussianArgmax(family.process.ids, -5.0, 2.0)
    lesson = Consistency(
        twin, settings.schedule, lambda raw: log_p(raw, PAIR.mask_id), teacher, 1 / 8, never=PAIR.mask_id
    )
    held = sequences(PAIR, 4096, 10**6)
    fresh = Tiny(VOCAB, PAIR.length)
    before, _ = bound(fresh, lesson, held)
    after, _ = bound(trained(fresh, lesson, lambda step: sequences(PAIR, 256, step), 200), lesson, held)
    assert 0 < after < before / 5


def test_a_network_trained_on_uniform_noise_does_not_look_at_its_own_token():
    family = UDLM().build(TOKEN.real + 1, TOKEN.mask_id)
    net = trained(Tiny(TOKEN.real + 1, 1), family.objective, lambda step: sequences(TOKEN, 512, step))
    x = torch.arange(TOKEN.real)[:, None]
    with torch.no_grad():
        p = log_p(net(Full().arrange(x, x), torch.full((TOKEN.real, 1), 0.5)), TOKEN.mask_id).exp()[:, 0, : TOKEN.real]
    torch.testing.assert_close(p, TOKEN.p.float().expand_as(p), rtol=0, atol=0.05)
