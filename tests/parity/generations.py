"""Recorded generations beside ours: the parts that every family's test uses."""

import torch

from mezzotint.decode.run import Decoding, Run
from mezzotint.denoisers.published.identify import Overrides
from mezzotint.denoisers.published.open import open_published
from mezzotint.models.published import model_of


def opened(golden, **known):
    """The folder's network, ready to be decoded; `known` is what its checkpoint does not say."""
    return model_of(open_published(golden.folder, given=Overrides(**known)))


def cases_of(golden, pattern=""):
    """Names and arguments of the recorded generations whose name begins so."""
    cases = {name: case for name, case in golden.meta["generate_cases"].items() if name.startswith(pattern)}
    assert cases
    return cases


def trace(model, prompts, length, decoding):
    """Every canvas of a generation, the first one included, and the finished run."""
    run = Run(model, prompts, length, decoding)
    canvases = [run.canvas, *run]
    return canvases, run


def unpadded(golden, prompts, mask):
    """Lists of ids without the padding."""
    return [row[keep.bool()].tolist() for row, keep in zip(golden[prompts], golden[mask], strict=True)]


def among(ids, vocab):
    """Bool[V]: which ids are meant."""
    return torch.isin(torch.arange(vocab), torch.tensor(ids))


def greedy(rule, plan, policy, **more):
    """A decoding that, as the published loops, fills the whole canvas."""
    return Decoding(rule, plan, policy, halt=False, **more)


class Leaning:
    """A selector that ranks exactly equal scores as the record does, where `wanted` Bool[B, W] was committed.

    The published loops leave ties to the sorting of their build.
    """

    def __init__(self, select, wanted):
        self.select, self.wanted = select, wanted

    def __call__(self, score, open, budget):
        up = torch.nextafter(score, torch.full_like(score, torch.inf))
        return self.select(torch.where(self.wanted, up, score), open, budget)
