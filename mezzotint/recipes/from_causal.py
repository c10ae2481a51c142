"""Diffusion models from causal checkpoints: seven published ways of turning one into the other, on a user's text.

They differ in their family card alone: who sees whom while training and afterwards, whether logits stay one column
early, and what a masked column counts for.  docs/ar-initialisation.md has what they reach.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from mezzotint import layouts
from mezzotint.batch import Batch
from mezzotint.checkpoints import DEFAULT_MODEL, TokenizerSpec, open_checkpoint
from mezzotint.config import config, to_dict
from mezzotint.data.characters import Pages, Windows
from mezzotint.data.documents import packed, texts
from mezzotint.data.tokenizer import Tokenizer
from mezzotint.decode.run import MaskedModel
from mezzotint.denoisers.lora import LoRA, attach, merged
from mezzotint.denoisers.networks.llama import Decoder
from mezzotint.denoisers.published.add_mask import TrainableDecoder, mask_of, tokenizer_with_mask, with_mask
from mezzotint.denoisers.published.attention_patterns import BlockCausalPattern, CausalPattern, FullPattern, Pattern
from mezzotint.denoisers.published.export import ExportMarks, write
from mezzotint.denoisers.published.open import AlignedNetwork
from mezzotint.errors import CheckpointError, ConfigError
from mezzotint.evaluate.infilling import infilled, ways
from mezzotint.families import IDLM, SDAR, CausalFamily, DiffuLLaMA, Dream, EfficientDLM, FastDLLM, WeDLM
from mezzotint.families.base import Family
from mezzotint.rng import Rng
from mezzotint.train.optim import WSD, Optim
from mezzotint.train.task import Task, Train


@config
class Adaptation:
    """The whole run."""

    model: str = DEFAULT_MODEL
    """A causal Llama- or Qwen-shaped model: a name of `mezzotint models`, a folder, or a .gguf file."""
    data: str = ""
    """A UTF-8 text file, or a corpus that `mezzotint data build` made; required."""
    family: CausalFamily
    lora: LoRA | None = None
    """Train adapters beside frozen weights and merge them at the end; null trains every weight."""
    mask: str = ""
    """The control token that becomes the mask; empty takes the tokenizer's own, else a row that no token has."""
    length: int = Field(default=64, gt=3)
    """Tokens per window; documents are packed one after the other and windows begin anywhere."""
    rows: int = Field(default=2, gt=0)
    """Windows per micro-batch."""
    characters: int = Field(default=4_000_000, gt=0)
    """Of the text at most, read and tokenised when the run begins."""
    windows: int = Field(default=16, gt=1)
    """Held-out windows of an evaluation."""
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.15, 0.5)
    """Shares of their tokens that are taken out and asked for."""
    hole: int = Field(default=8, gt=0)
    """Tokens of the hole in their middle that is asked for as well."""
    train: Train

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            ConfigError: no text, a length that is no multiple of the blocks, or a hole that does not fit into it.
        """
        if not self.data:
            raise ConfigError("this recipe learns from a text: pass --set data=my.txt, or a corpus such as subwords")
        block = getattr(self.family, "block", None) or 1
        if self.length % block:
            near = -(-self.length // block) * block
            raise ConfigError(f"a length of {self.length} is no multiple of the blocks of {block}: set length={near}")
        ways(1, self.length, (), self.hole)

    def build(self) -> Task:
        """Open the checkpoint and read the text.

        Raises:
            ConfigError: no text, one that cannot be read or is too short, or settings that contradict each other.
            CheckpointError: a model that cannot be had or is of another kind.
        """
        self.check()
        checkpoint = open_checkpoint(self.model)
        tokenizer = Tokenizer.from_spec(checkpoint.tokenizer)
        if not tokenizer.eos_ids:
            raise CheckpointError(f"{checkpoint.name} names no end token, which stands between documents")
        found = texts(self.data, self.characters)
        train, held = (packed(part, tokenizer.encode, tokenizer.eos_ids[0]) for part in (found.train, found.valid))
        if len(train) < self.length or len(held) < 2 * self.length:
            raise ConfigError(
                f"{self.data} has {len(train)} tokens to learn from and {len(held)} to be asked about: windows of "
                f"{self.length} need at least {self.length} and {2 * self.length}, use more text or a smaller length"
            )
        torch.manual_seed(self.train.seed)
        mask_id = mask_of(checkpoint, self.mask)
        decoder = with_mask(checkpoint, mask_id)
        vocab = decoder.config.vocab
        if self.lora is not None:
            attach(decoder, self.lora, mask_id)
        family = self.family.build(vocab, mask_id)
        judge = _Judge(self, family, mask_id, checkpoint.tokenizer, held_out(held, self.length, self.windows))
        known = {"family": to_dict(self)["family"], "model": checkpoint.name, "mask": mask_id, "text": found.facts}
        identity = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
        network = TrainableDecoder(AlignedNetwork(decoder, _pattern(family), family.lookback))
        data = Windows(train, self.length, self.rows)
        return Task(network, family.objective, data, judge.evaluate, judge.export, identity)


@dataclass(frozen=True)
class _Judge:
    recipe: Adaptation
    family: Family
    mask_id: int
    spec: TokenizerSpec
    held: Tensor

    def evaluate(self, network: nn.Module) -> dict[str, float | str]:
        """The loss of held-out windows, always with the same noise; shares of missing tokens found, with errors."""
        assert isinstance(network, TrainableDecoder)
        held = self.held.to(next(network.parameters()).device)
        loss = (self.family.bound or self.family.objective)(network, Batch(held, torch.ones_like(held).bool()), Rng(0))
        model = model_of(network.network, self.mask_id, self.family.block)
        results: dict[str, float | str] = {"loss": float(loss.total)}
        for name, holes in ways(len(self.held), self.recipe.length, self.recipe.shares, self.recipe.hole).items():
            found = infilled(model, self.held, holes)
            results |= {name: found.share, f"{name}, error": found.error}
        return results

    def export(self, network: nn.Module, folder: Path) -> None:
        """A folder that `mezzotint generate`, and others, read: Llama's or Qwen's names, adapters merged."""
        assert isinstance(network, TrainableDecoder)
        decoder, causal = network.network.decoder, isinstance(network.network.pattern, CausalPattern)
        assert isinstance(decoder, Decoder)
        stop = Tokenizer.from_spec(self.spec).eos_ids
        marks = ExportMarks(
            causal=causal,
            mask_id=self.mask_id,
            block=None if causal else self.family.block,
            shift=bool(self.family.lookback),
            begin_id=stop[0],
            stop_ids=stop,
            pad_id=stop[0],
            chat_template=self.spec.chat_template,
            method=self.family.method,
        )
        fresh = folder.with_name("export.new")
        shutil.rmtree(fresh, ignore_errors=True)
        write(merged(decoder), fresh, marks, tokenizer_with_mask(self.spec, self.mask_id))
        # a model that was there before stays whole until the new one is
        shutil.rmtree(folder)
        fresh.rename(folder)


def _pattern(family: Family) -> Pattern:
    """Who sees whom when the family's network reads a canvas."""
    if isinstance(family.reading, layouts.Causal):
        return CausalPattern()
    return FullPattern() if family.block is None else BlockCausalPattern(family.block)


def model_of(network: AlignedNetwork, mask_id: int, block: int | None) -> MaskedModel:
    """A network as infilling asks it; rows of the vocabulary from the mask on stand for no text."""
    weight = next(network.parameters())
    return MaskedModel(
        network, mask_id, network.decoder.config.vocab, block=block, pattern=network.pattern, device=weight.device
    )


def held_out(ids: np.ndarray, length: int, windows: int) -> Tensor:
    """Long[n, L]: at most `windows` windows, from the beginning."""
    count = min(windows, len(ids) // length)
    return Pages(ids, length, count).batch(0).tokens


def adapting(family: CausalFamily) -> Adaptation:
    """Five minutes of one idle CPU core: enough to see it work; more text and steps are what it lacks."""
    optim = Optim(lr=1.5e-3, betas=(0.9, 0.95), weight_decay=0.0, shape=WSD(warmup=0.1, decay=0.4))
    train = Train(steps=180, optim=optim, log_every=2, eval_every=40, eval_first=True, save_minutes=5.0, keep=1)
    return Adaptation(family=family, lora=LoRA(), train=train)


def diffullama() -> Adaptation:
    """Attention from causal to full over the first quarter of the run, 1 / t as weight."""
    return adapting(DiffuLLaMA(anneal=40))


def dream() -> Adaptation:
    """Full attention at once, weights that know what is visible nearby."""
    return adapting(Dream())


def sdar() -> Adaptation:
    """Blocks of four tokens, each seen both ways, and no shift."""
    return adapting(SDAR())


def fast_dllm() -> Adaptation:
    """Blocks of eight that keep the shift, every mask beside its complement."""
    return adapting(FastDLLM(block=8))


def efficient_dlm() -> Adaptation:
    """Blocks of sixteen whose last masks are hidden at their end."""
    return adapting(EfficientDLM())


def wedlm() -> Adaptation:
    """Causal attention, decided columns read before masks, next tokens learnt beside."""
    return adapting(WeDLM())


def idlm() -> Adaptation:
    """A causal model that goes on causally, and learns to draft three tokens behind its own."""
    return adapting(IDLM())
