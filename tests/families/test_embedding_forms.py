"""Families on vectors choose how many features an embedding has by the vocabulary, unless they are told."""

import pytest

from mezzotint.families.diffusion_lm import DiffusionLM
from mezzotint.families.sed import SED


@pytest.mark.parametrize(
    ("family", "vocab", "width"),
    [
        (DiffusionLM(), 28, 16),
        (DiffusionLM(), 1001, 16),  # the last id is [MASK], which has no vector
        (DiffusionLM(), 1002, 128),
        (DiffusionLM(width=4), 8193, 4),
        (SED(), 28, 8),
        (SED(), 8193, 32),
        (SED(width=32), 28, 32),
    ],
)
def test_width_follows_vocabulary(family: DiffusionLM | SED, vocab: int, width: int) -> None:
    assert family.build(vocab, vocab - 1).process.width == width
