"""What a run from scratch is asked while it trains: bits per character of held-out text, and texts from nothing."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mezzotint.data.characters import Pages
from mezzotint.data.corpus import Corpus
from mezzotint.families.base import objective_of
from mezzotint.models.trained import TrainedModel
from mezzotint.objectives.bits import measure


@dataclass(frozen=True)
class HeldOut:
    """Evaluates a run from scratch and exports its model."""

    model: TrainedModel
    corpus: Corpus
    windows: int
    """Held-out windows of an evaluation."""
    samples: int
    """Texts written at every evaluation."""
    steps: int
    """Denoising steps per text."""

    def evaluate(self, network: nn.Module) -> dict[str, float | str]:
        """Bits per character of held-out text, always with the same noise, and some samples."""
        held, length = self.corpus.valid.ids, self.model.shape.length
        rows = min(16, len(held) // length)
        pages = Pages(held, length, rows)
        batches = [pages.batch(number) for number in range(max(1, min(len(pages), self.windows // rows)))]
        found = measure(network, objective_of(self.model.family), batches)
        bits, error = found.bits(self.corpus.valid.ratio)
        results: dict[str, float | str] = {"bits_per_character": bits, "standard_error": error}
        if not math.isfinite(found.error):  # a single window has no spread
            del results["standard_error"]
        for index, text in enumerate(self.write(network)):
            results[f"sample {index + 1}"] = text
        return results

    def write(self, network: nn.Module) -> list[str]:
        """Texts of one window's length, from nothing."""
        if not self.samples:
            return []
        # canvases are laid out on the CPU, wherever the network is being trained
        with torch.random.fork_rng(devices=[]):
            model = TrainedModel.fresh(self.model.shape, self.model.vocabulary)
        model.network.load_state_dict(network.state_dict())
        model.network.eval()
        *_, canvas = model.decode(model.blank(self.samples), self.steps)
        return model.texts(canvas)

    def export(self, network: nn.Module, folder: Path) -> None:
        """The model as `mezzotint generate --model` reads it."""
        self.model.save(folder, network)
