"""Masked diffusion from scratch on a user's text, by characters: something visible in two minutes on a laptop."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import nn

from mezzotint.config import config, to_dict
from mezzotint.data.characters import Characters, Windows, read_text
from mezzotint.decode.canvas import Canvas, Step, write
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.denoisers.transformer import TransformerConfig
from mezzotint.errors import ConfigError
from mezzotint.families.base import Family
from mezzotint.families.mdlm import MDLM
from mezzotint.layouts import Full
from mezzotint.rng import Rng
from mezzotint.train.optim import Optim
from mezzotint.train.task import Task, Train


@config
class Text:
    """The text and how it is cut."""

    path: Path | None = None
    """A UTF-8 text file; required."""
    length: int = Field(default=64, gt=1)
    """Characters per training window."""
    rows: int = Field(default=16, gt=0)
    """Windows per micro-batch."""
    held_out: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the text, at its end, kept for evaluation."""


@config
class MDLMText:
    """The whole run."""

    data: Text = Text()
    network: TransformerConfig = TransformerConfig(width=128, layers=3, heads=4)
    family: MDLM = MDLM()
    samples: int = Field(default=2, ge=0)
    """Texts written at every evaluation."""
    sample_steps: int = Field(default=64, gt=0)
    """Denoising steps per text."""
    train: Train

    def build(self) -> Task:
        """Read the text, make its vocabulary and a fresh network.

        Raises:
            ConfigError: no text, or one that is missing, not UTF-8 or too short.
        """
        if self.data.path is None:
            raise ConfigError("this recipe learns from a text of yours: pass --set data.path=my.txt")
        length = self.data.length
        # the held-out end must hold a window too
        text = read_text(self.data.path, least=int(2 * length / self.data.held_out) + 1)
        characters = Characters.of(text)
        ids = characters.encode(text)
        cut = len(ids) - max(int(len(ids) * self.data.held_out), length)
        family = self.family.build(characters.vocab, characters.mask_id)
        torch.manual_seed(self.train.seed)
        network = self.network.build(characters.vocab)
        test = Windows(ids[cut:], length, self.data.rows)
        judge = _Judge(self, family, characters, test)
        data = Windows(ids[:cut], length, self.data.rows)
        return Task(network, family.objective, data, judge.evaluate, judge.export)


def mdlm_text() -> MDLMText:
    """Two minutes of a small network: many quick steps teach more in that time than few large ones."""
    train = Train(steps=None, max_minutes=2.0, eval_every=500, optim=Optim(lr=4e-3), ema=0.99)
    return MDLMText(train=train)


@dataclass(frozen=True)
class _Judge:
    recipe: MDLMText
    family: Family
    characters: Characters
    test: Windows

    def evaluate(self, network: nn.Module) -> dict[str, float | str]:
        """The bound on held-out text in bits per character, always with the same noise, and some samples."""
        device = next(network.parameters()).device
        nats, count = 0.0, 0
        for number in range(8):
            batch = self.test.batch(number, seed=0)
            batch.tokens, batch.target = batch.tokens.to(device), batch.target.to(device)
            loss = self.family.objective(network, batch, Rng(0, number))
            nats, count = nats + float(loss.total) * int(loss.count), count + int(loss.count)
        results: dict[str, float | str] = {"bits_per_character": nats / count / torch.log(torch.tensor(2.0)).item()}
        for index, text in enumerate(self.write(network, self.recipe.samples)):
            results[f"sample {index + 1}"] = text
        return results

    def write(self, network: nn.Module, rows: int) -> list[str]:
        """Texts of one window's length, from nothing."""
        if not rows:
            return []

        def denoise(canvas: Canvas, step: Step) -> torch.Tensor:
            inputs = Full().arrange(canvas.tokens, canvas.tokens)
            return network(inputs, step.t).gather(1, step.window.columns()[..., None].expand(-1, -1, vocab))

        length, vocab = self.recipe.data.length, self.characters.vocab
        blank = write([[]] * rows, length, self.family.process.prior)
        *_, canvas = decode(blank, denoise, self.family.rule, Blocks(length, self.recipe.sample_steps))
        return [self.characters.decode(row) for row in canvas.tokens.tolist()]

    def export(self, network: nn.Module, folder: Path) -> None:
        """Weights, the shape and the vocabulary, enough to build the network again."""
        save_file(
            {name: value.contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors"
        )
        shape = {"network": to_dict(self.recipe.network), "family": to_dict(self.recipe.family)}
        record = {**shape, "symbols": "".join(self.characters.symbols), "length": self.recipe.data.length}
        (folder / "config.json").write_text(json.dumps(record, indent=2, ensure_ascii=False), encoding="utf-8")
