"""One decoding step: logits of a window and a canvas in, the next canvas out."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Prior, Step
from mezzotint.decode.propose import Draw, Propose, RandomOrder, likeliest, probable
from mezzotint.decode.revise import Edit, Remask, Revise
from mezzotint.decode.select import Bernoulli, Select, leftmost, most_confident, reveal
from mezzotint.decode.shapers import Ban, Shaper
from mezzotint.errors import ConfigError
from mezzotint.rng import Rng
from mezzotint.schedules import Survival

Rule = Callable[[Tensor, Canvas, Step, Rng], Canvas]

_REVISION = 2
_PRIOR = 3


@dataclass(frozen=True)
class Unmask:
    """Shape the logits, propose a token per column, commit some, reopen some, put noise where nothing is decided."""

    propose: Propose = likeliest
    select: Select = most_confident
    revise: Revise | None = None
    shapers: tuple[Shaper, ...] = ()
    prior: Prior | None = None
    """Noise for undecided columns: nothing changes for the masked process, the uniform one renews them every step."""
    rescore: bool = False
    """Give decided columns of the window the probability that the network now gives to their token."""
    edit: Edit | None = None
    """Which decided columns of the window to overwrite with this step's proposal; given ones never are."""

    def __post_init__(self) -> None:
        if self.revise is not None and self.prior is None:
            raise ConfigError("a rule that reopens columns needs a prior to fill them: pass prior=process.prior")

    def __call__(self, raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        """The canvas after one step.

        Args:
            raw: Float[B, W, V], logits of the step's window; the same afterwards, but perhaps not meanwhile.
            canvas: untouched; the result shares the tensors that the step does not change.
            step: the window must lie inside the canvas.
            rng: the request's noise, `canvas.rng`.

        Returns:
            A canvas with `step` one higher in every row that had something to do.
        """
        first = self.shapers[0] if self.shapers else None
        if isinstance(first, Ban) and not torch.compiler.is_compiling():
            with first.within(raw) as allowed:
                return self._apply(allowed, self.shapers[1:], canvas, step, rng)
        return self._apply(raw, self.shapers, canvas, step, rng)

    def _apply(self, raw: Tensor, shapers: tuple[Shaper, ...], canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        for shape in shapers:
            raw = shape(raw, canvas, step)
        columns = step.window.columns()
        tokens, score = self.propose(raw, rng)
        held, open, known, born = (
            x.gather(-1, columns) for x in (canvas.tokens, canvas.open, canvas.score, canvas.born)
        )
        commit = _in(step.live, self.select(score, open, step.budget))
        write = commit
        if self.edit is not None or self.rescore:
            settled = ~open & ~canvas.fixed.gather(-1, columns)
            if self.edit is not None:
                write = commit | _in(step.live, self.edit(score, settled & (tokens != held)))
            if self.rescore:
                known = torch.where(settled, probable(raw, held), known)
        after = Canvas(
            tokens=canvas.tokens.scatter(-1, columns, torch.where(write, tokens, held)),
            open=canvas.open.scatter(-1, columns, open & ~commit),
            fixed=canvas.fixed,
            score=canvas.score.scatter(-1, columns, torch.where(write, score.to(known.dtype), known)),
            born=canvas.born.scatter(-1, columns, torch.where(write, canvas.step[:, None], born)),
            step=canvas.step,
            seed=canvas.seed,
            latent=canvas.latent,
            notes=canvas.notes,
        )
        # a row whose window is done waits for its neighbours, and its noise waits with it
        busy = self.revise is not None or self.edit is not None
        working = torch.ones_like(canvas.seed, dtype=torch.bool) if busy else open.any(-1)
        self._reopen(after, step, rng, columns)
        after.step = canvas.step + (working if step.live is None else working & step.live)
        return after

    def _reopen(self, after: Canvas, step: Step, rng: Rng, columns: Tensor) -> None:
        """Apply the revision to the new canvas, and noise to what is open."""
        if self.revise is not None:
            back = _in(step.live, self.revise(after, step, rng.fork(_REVISION)))
            after.open = after.open.scatter(-1, columns, after.open.gather(-1, columns) | back)
        if self.prior is not None:
            noise = self.prior((columns.shape[0], after.tokens.shape[1]), columns.device, rng.fork(_PRIOR))
            after.tokens = torch.where(after.open, noise, after.tokens)


def _in(live: Tensor | None, columns: Tensor) -> Tensor:
    """Bool[B, W]: those of live rows; None is all rows."""
    return columns if live is None else columns & live[:, None]


@dataclass(frozen=True)
class Seeded:
    """The window's first open column in its first step, whatever its score; then another rule.

    Networks that predict a column from the one before it can then read a window without what stands before it
    (Fast-dLLM for Dream, 2505.22618; Fast-dLLM v2, 2509.26328).
    """

    rest: Unmask
    every: int = 1
    """Only where the window starts at a multiple of this."""

    def __call__(self, raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        """The canvas after one step, from logits Float[B, W, V]."""
        if step.k or int(step.window.start[0]) % self.every:
            return self.rest(raw, canvas, step, rng)
        once = replace(step, budget=torch.ones_like(step.budget))
        return replace(self.rest, select=leftmost)(raw, canvas, once, rng)


def ancestral(schedule: Survival, prior: Prior, propose: Propose | None = None, remask: Remask | None = None) -> Rule:
    """The masked process run backwards: every column is revealed by itself, with the chance that the posterior gives.

    MDLM (2406.07524); with `remask`, ReMDM (2503.00307).  `propose` is a plain draw if not given.
    """

    def rule(raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        a_t, a_s = schedule.alpha(step.t), schedule.alpha(step.s)
        # shared out by confidence, sigma is zero on masked columns
        sigma = 0.0 if remask is None or remask.doubtful else remask.sigma(step)
        select = Bernoulli(reveal(a_t, a_s, sigma))
        return Unmask(RandomOrder(propose or Draw()), select, remask, prior=prior)(raw, canvas, step, rng)

    return rule
