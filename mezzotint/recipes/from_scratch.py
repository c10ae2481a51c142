"""Small models from scratch on a user's text or a corpus: one record for every family, so that they compare.

Muon on the matrices, and many steps of few windows, teach a small network more in two minutes than any rate of AdamW
(measured while these settings were chosen; docs/league.md has the figures of the whole league).
"""

import hashlib
import json
from dataclasses import replace
from functools import partial
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from mezzotint.checkpoints.encoder import MINILM
from mezzotint.config import Named, config, to_dict
from mezzotint.data.attributes import Length, Marked
from mezzotint.data.characters import Windows
from mezzotint.data.corpus import Corpus, Tokens, Vocabulary, find, fitted
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.denoisers.networks.trunk import Trunk
from mezzotint.errors import ConfigError
from mezzotint.families import (
    AR,
    BD3LM,
    D3PM,
    GIDD,
    MDLM,
    SED,
    SEDD,
    UDLM,
    AnyFamily,
    DiffusionBERT,
    DiffusionLM,
    Duo,
    EditFlow,
    FlexMDM,
    FlowMatching,
    ReMDM,
)
from mezzotint.models.trained import TrainedConfig, TrainedModel
from mezzotint.objectives.class_conditional import Classes
from mezzotint.objectives.embedding_denoising import Labelled
from mezzotint.plugins import kind_of
from mezzotint.recipes.from_encoder import STARTED, PublishedEncoder
from mezzotint.recipes.held_out import HeldOut
from mezzotint.schedules import Polynomial
from mezzotint.train.device import pick_device
from mezzotint.train.optim import WSD, Optim, Orthogonal
from mezzotint.train.task import Task, Train

FREE = ("mdlm", "udlm")
"""Families whose steps can be guided without a classifier."""


@config
class Small:
    """The whole run."""

    data: str = ""
    """A UTF-8 text file, or a corpus that `mezzotint data build` made, which has its own tokens; required."""
    tokens: Tokens = "auto"
    """What a text file is read by: its "characters", or "subwords" (byte-level BPE) trained on it; "auto" takes
    subwords where the text is long enough to learn them."""
    vocab: int | None = Field(default=None, ge=300, le=60_000)
    """Subwords of a text file; null: a number that suits its length."""
    encoder: str = ""
    """Start from this published encoder instead of `network`: all-minilm-l6-v2, or a folder with its weights; a text
    file is then read by its word pieces.  sed takes only its embeddings, and keeps `network`."""
    length: int = Field(default=64, gt=1)
    """Tokens per training window, and of the longest text that the model writes."""
    rows: int = Field(default=8, gt=0)
    """Windows per micro-batch."""
    network: Trunk
    """"transformer", or "dit" (DiT, with sizes of its own; `network.timed=true` where a family reads the time)."""
    family: AnyFamily
    told: Annotated[Length, Named] | None = None
    """What the network hears of nine texts in ten, so that `mezzotint guide --told` can ask for it: length."""
    samples: int = Field(default=2, ge=0)
    """Texts written at every evaluation."""
    sample_steps: int = Field(default=32, gt=0)
    """Denoising steps per text."""
    windows: int = Field(default=192, gt=1)
    """Held-out windows of an evaluation."""
    train: Train

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            ConfigError: a length that the family's blocks do not divide, or a family that cannot be told or start so.
        """
        block = getattr(self.family, "block", None) or 1
        if self.length % block:
            near = -(-self.length // block) * block
            raise ConfigError(f"a length of {self.length} is no multiple of the blocks of {block}: set length={near}")
        kind = kind_of(self.family)
        if self.told and self.network.kind != "transformer":
            raise ConfigError(
                f"{self.network.kind} hears of no attribute: leave told out, or take network.kind=transformer"
            )
        if self.told and (self.encoder or kind not in FREE):
            raise ConfigError(
                f"{kind} {'from an encoder ' if self.encoder else ''}cannot be told what a text is to be: "
                f"leave told out, or take {' or '.join(FREE)} without an encoder"
            )
        if self.encoder and kind not in STARTED:
            raise ConfigError(
                f"cannot start {kind} from an encoder, which reads tokens of both sides and no time: "
                f"leave encoder out, or take {', '.join(STARTED)}"
            )

    def corpus(self, vocabulary: Vocabulary | None = None) -> Corpus:
        """The text, in the parts and tokens that the run uses; raises as `data.corpus.find`."""
        make = partial(fitted, tokens=self.tokens, vocab=self.vocab)
        return find(self.data, self.length, vocabulary, make)

    def build(self) -> Task:
        """Read the text and make a fresh network.

        Raises:
            ConfigError: no text, or one that is missing, not UTF-8 or too short.
        """
        if not self.data:
            raise ConfigError("this recipe learns from a text of yours: pass --set data=my.txt")
        self.check()
        start = PublishedEncoder.of(self.encoder) if self.encoder else None
        corpus = self.corpus(start and start.vocabulary)
        torch.manual_seed(self.train.seed)
        told = self.told and self.told.fitted(corpus.train.ids, self.length, corpus.vocabulary)
        network = replace(self.network, classes=told.classes) if told else self.network
        shape = TrainedConfig(network=network, family=informed(self.family, corpus), length=self.length, told=told)
        model = start.model(shape, corpus.vocabulary) if start else TrainedModel.fresh(shape, corpus.vocabulary)
        # the trainer moves the network, and its objective reads tables of the process
        model.family.process.to(pick_device(self.train.device))
        judge = HeldOut(model, corpus, self.windows, self.samples, self.sample_steps)
        data, objective = Windows(corpus.train.ids, self.length, self.rows), model.family.objective
        if told:
            data = Marked(data, told, corpus.vocabulary, Labelled)
            objective = Classes(objective, none=told.classes)
        # an encoder is known by its vocabulary
        known = {"family": to_dict(self)["family"], "vocabulary": corpus.vocabulary.to_dict(), "text": corpus.facts}
        if told:
            known["told"] = to_dict(told)
        identity = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
        return Task(model.network, objective, data, judge.evaluate, judge.export, identity, model.describe)


def informed(family: AnyFamily, corpus: Corpus) -> AnyFamily:
    """The family with what it asks of the text to train on and was not given: how often ids are, which are alike."""
    if not isinstance(family, D3PM | DiffusionBERT):
        return family
    return family.counted(torch.from_numpy(np.array(corpus.train.ids)), corpus.vocabulary.vocab)


def small(family: AnyFamily, *, timed: bool = False) -> Small:
    """Two minutes on a CPU core for a family."""
    # a rate that falls over most of the run ends lower than one that falls at its end, at this length
    optim = Orthogonal(lr=0.02, vectors=0.1, shape=WSD(decay=0.8))
    train = Train(steps=None, max_minutes=2.0, eval_every=400, optim=optim, ema=0.99, save_minutes=0.5)
    network = TransformerConfig(width=96, layers=3, heads=4, timed=timed)
    return Small(network=network, family=family, train=train)


def ar() -> Small:
    """Autoregressive: the baseline."""
    return small(AR())


def mdlm() -> Small:
    """MDLM on plain cross-entropy; family.weights=bound trains on the bound itself."""
    return small(MDLM(weights="even"))


def bd3lm() -> Small:
    """Block diffusion, eight tokens at a time."""
    return small(BD3LM(block=8, weights="even"))


def bd3lm_medium() -> Small:
    """Block diffusion one size up, four subwords at a time: nearer to autoregression, so that texts hold together."""
    recipe = small(BD3LM(block=4, weights="even"))
    network = TransformerConfig(width=160, layers=4, heads=5, base=1000.0)
    train = replace(recipe.train, max_minutes=20.0, eval_every=2000, save_minutes=1.0)
    return replace(recipe, data="subwords", length=128, network=network, sample_steps=128, train=train)


def d3pm_absorbing() -> Small:
    """D3PM into [MASK], in 64 steps."""
    return small(D3PM(steps=64, weight=1.0), timed=True)


def d3pm_uniform() -> Small:
    """D3PM among all tokens, in 64 steps; family.weights=hybrid trains on the bound alone, as published.

    With cross-entropy beside it, it was worse than guessing: that alone teaches what the token is, given also what
    stands in its place, and the bound wants it without that.
    """
    return small(D3PM(transition="uniform", table="cosine", steps=64, weight=0.0, weights="even"), timed=True)


def flow_mask() -> Small:
    """Discrete flow matching from masks."""
    return small(FlowMatching(loss="cross-entropy"), timed=True)


def flow_uniform() -> Small:
    """Discrete flow matching from random tokens, whose noise runs backwards.

    The bound of the paper's sampler, family.sampler=euler, lies a bit per character above what the network knows.
    """
    return small(FlowMatching(source="uniform", loss="cross-entropy", sampler="reversal"), timed=True)


def remdm() -> Small:
    """MDLM's network with ReMDM's sampler, which masks written tokens again."""
    return small(ReMDM(weights="even", nucleus=1.0))


def sedd_absorbing() -> Small:
    """Score entropy, into [MASK]."""
    return small(SEDD(), timed=True)


def sedd_uniform() -> Small:
    """Score entropy among all tokens."""
    return small(SEDD(noise="uniform"), timed=True)


def udlm() -> Small:
    """Uniform noise in continuous time, on plain cross-entropy; family.weights=bound trains on the bound itself."""
    return small(UDLM(weights="even"), timed=True)


def gidd() -> Small:
    """Masks and random tokens at once, with the dynamic weights."""
    return small(GIDD(), timed=True)


def diffusion_bert() -> Small:
    """DiffusionBERT's spindle over the text's own frequencies, told no time, in 64 steps."""
    return small(DiffusionBERT(steps=64, weight=1.0))


def diffusion_bert_minilm() -> Small:
    """The same from a pretrained encoder of 22 M parameters, over its word pieces."""
    recipe = small(DiffusionBERT(steps=64, weight=1.0))
    # orthogonal steps would wear away what the encoder knows
    optim = Optim(lr=5e-4, shape=WSD(decay=0.8))
    train = replace(recipe.train, optim=optim, max_minutes=10.0, eval_every=200)
    return replace(recipe, encoder=MINILM.name, rows=4, windows=64, train=train)


def duo() -> Small:
    """UDLM's bound, after a first part on the Gaussian twin."""
    return small(Duo(curriculum=750), timed=True)


def diffusion_lm() -> Small:
    """Gaussian noise on embeddings that learn along."""
    return small(DiffusionLM(), timed=True)


def sed() -> Small:
    """Gaussian noise on fixed embeddings, self-conditioned, infilling by spans.

    Few features for alphabets: in more of them rows of norm sqrt(E) stay readable under most noise, which then teaches
    nothing.
    """
    return small(SED(), timed=True)


def edit_flow() -> Small:
    """Texts of any length, written by insertions, from nothing."""
    return small(EditFlow(), timed=True)


def flexmdm() -> Small:
    """Masks that are inserted, most of them early, as by the paper's large model, and revealed: texts of any length."""
    return small(FlexMDM(insert=Polynomial(power=8.0, eps=0.0), weights="even"), timed=True)
