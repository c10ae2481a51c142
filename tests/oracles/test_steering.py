"""Trained classifiers steer an exact model: letters of a kind, length, and a kind per column.

Texts are 1 to 4 letters of one of two kinds, an end, and padding; the model knows them all, so what fails is control.
"""

import itertools

import pytest
import torch
from exact_vectors import Exact, written
from training import trained

from mezzotint.decode.guidance.gradients import ClassifierEnergy, GradientGuided, Pinned
from mezzotint.decode.plan import Blocks
from mezzotint.decode.samplers.ddpm import GaussianReverse
from mezzotint.decode.samplers.embedding_canvas import of_length
from mezzotint.decode.samplers.time_grid import LatentGrid
from mezzotint.denoisers.networks.embedding_network import NoisyTextClassifier
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.objectives.embedding_denoising import Labelled, Labels
from mezzotint.processes.gaussian import Distance, Gaussian, fresh, scaled
from mezzotint.processes.gaussian_schedules import Table, cosine

KINDS, LONGEST, END, PAD = ((0, 1), (2, 3)), 4, 4, 5
WIDTH = LONGEST + 1
TEXTS = [
    [*letters, END, *[PAD] * (LONGEST - size)]
    for kind in KINDS
    for size in range(1, LONGEST + 1)
    for letters in itertools.product(kind, repeat=size)
]
SEQUENCES = torch.tensor(TEXTS)
LENGTHS = (SEQUENCES < END).sum(-1)
P = 1 / (2.0 ** LENGTHS.double() * 2 * LONGEST)
ROWS, STEPS = 96, 60


def kind_of(tokens):
    """Long[B]: 0 or 1."""
    return (tokens[:, 0] >= KINDS[1][0]).long()


def length_of(tokens):
    """Long[B]: letters, less one."""
    return (tokens < END).sum(-1).sub(1).clamp(0, LONGEST - 1)


def tags_of(tokens):
    """Long[B, L]: a kind, or 2 for what is no letter."""
    return tokens // 2


def process():
    table = scaled(fresh(PAD + 1, 8, seed=1))
    return Gaussian(table, Table.of(cosine(200)), spread=0.1, head=Distance(50.0))


def batches(label, rows=64):
    def make(step):
        index = torch.multinomial(P, rows, True, generator=torch.Generator().manual_seed(step))
        tokens = SEQUENCES[index]
        return Labelled(tokens, torch.ones_like(tokens, dtype=torch.bool), labels=label(tokens))

    return make


@pytest.fixture(scope="module")
def gauss():
    return process()


@pytest.fixture(scope="module")
def classifiers(gauss):
    shape = TransformerConfig(width=32, layers=1, heads=2, timed=True)
    found = {}
    for name, label, classes, tagging in (
        ("kind", kind_of, 2, False), ("length", length_of, LONGEST, False), ("tags", tags_of, 3, True),
    ):  # fmt: skip
        torch.manual_seed(0)
        net = NoisyTextClassifier(shape, gauss.width, classes, tagging=tagging)
        found[name] = trained(net, Labels(gauss), batches(label), steps=400, lr=1e-2)
    return found


def sampled(gauss, *energies, rows=None, **more):
    back = GaussianReverse(gauss, 1.0)
    rule = GradientGuided(back.moments, gauss.round, energies, **more) if energies else LatentGrid(back, gauss.round)
    net = Exact(gauss, SEQUENCES, P)
    return written(net, gauss, rule, rows or [[None] * WIDTH] * ROWS, STEPS, Blocks(WIDTH, STEPS))


def share(hit):
    return float(hit.float().mean())


def every(value):
    return torch.full((ROWS,), value)


def test_a_text_of_the_wanted_kind(gauss, classifiers):
    before = share(kind_of(sampled(gauss)) == 1)
    after = sampled(gauss, ClassifierEnergy(classifiers["kind"], every(1)))
    assert 0.3 < before < 0.7
    assert share(kind_of(after) == 1) > 0.9
    assert valid(after) > 0.9


def test_a_text_of_the_wanted_length(gauss, classifiers):
    before = share(length_of(sampled(gauss)) == 2)
    after = sampled(gauss, ClassifierEnergy(classifiers["length"], every(2)))
    assert before < 0.45
    assert share(length_of(after) == 2) > 0.8
    assert valid(after) > 0.9


def test_two_wishes_add_up(gauss, classifiers):
    wishes = ClassifierEnergy(classifiers["kind"], every(0)), ClassifierEnergy(classifiers["length"], every(0))
    before, after = (share((kind_of(x) == 0) & (length_of(x) == 0)) for x in (sampled(gauss), sampled(gauss, *wishes)))
    assert before < 0.25
    assert after > 0.6


def test_a_tag_for_every_column_and_columns_that_do_not_matter(gauss, classifiers):
    tags = torch.tensor([[1, 1, -1, -1, -1]]).expand(ROWS, -1)
    after = tags_of(sampled(gauss, ClassifierEnergy(classifiers["tags"], tags)))
    assert share((after[:, :2] == 1).all(-1)) > 0.85


def test_an_end_in_place_needs_no_classifier(gauss):
    columns, tokens = torch.full((ROWS, 1), 2), torch.full((ROWS, 1), END)
    before = share(sampled(gauss)[:, 2] == END)
    assert before < 0.45
    assert share(sampled(gauss, Pinned(gauss, columns, tokens))[:, 2] == END) > 0.8


def test_a_given_end_is_exact(gauss):
    after = sampled(gauss, rows=of_length([[None] * WIDTH] * ROWS, 3, END, PAD))
    assert (length_of(after) == 2).all()
    assert valid(after) > 0.97


def test_given_columns_stay_while_others_are_steered(gauss, classifiers):
    rows = [[2, *[None] * LONGEST]] * ROWS
    after = sampled(gauss, ClassifierEnergy(classifiers["length"], every(3)), rows=rows)
    assert (after[:, 0] == 2).all()
    assert share(length_of(after) == 3) > 0.8


def test_no_rounds_are_the_model_itself(gauss, classifiers):
    assert torch.equal(sampled(gauss, ClassifierEnergy(classifiers["kind"], every(1)), rounds=0), sampled(gauss))


def valid(tokens):
    """How many texts are of the source."""
    return share((tokens[:, None] == SEQUENCES).all(-1).any(-1))
