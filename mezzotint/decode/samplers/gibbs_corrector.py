"""Gibbs corrector of uniform noise: sweeps that repair what the sampler wrote (2605.22765); and the discrete DDIM step.

Between steps a sweep may draw a few columns again, each from its exact conditional given all others, which leaves the
marginal of the noise level as it is.  The conditional needs the leave-one-out posterior, which the ordinary one
p(x_0 | x_t), such as flow matching's network predicts, gives (eq. 13).  The DDIM step draws a clean token from it and
then moves by three routes: to the clean token, to where it is, to a random token (D3PM, 2107.03006; diffusers).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mezzotint.config import config
from mezzotint.decode.canvas import Canvas, Step
from mezzotint.decode.plan import Plan, Steps
from mezzotint.decode.rule import Rule
from mezzotint.errors import ConfigError
from mezzotint.rng import Rng, draw
from mezzotint.schedules import Survival

_GUESS, _ROUTE, _RANDOM, _ORDER, _AGAIN = 1, 2, 3, 4, 5

Doubt = Callable[[Tensor, Tensor], Tensor]
"""(log-probabilities Float[B, W, V], tokens Long[B, W]) -> Float[B, W], larger where a column should be drawn again."""


@dataclass(frozen=True)
class DiscreteDDIM:
    """One step from t to s of the uniform process."""

    schedule: Survival
    temperature: float = 0.0
    """Of the drawn clean tokens; 0 takes the likeliest."""
    never: int | None = None
    """An id that noise does not draw, [MASK]; None: it draws all V."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ConfigError(f"cannot draw at a temperature of {self.temperature}: take 0 or more")

    def __call__(self, raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        """The canvas after the step, from logits Float[B, W, V].

        Its scores are the untempered probabilities of the drawn clean tokens.
        """
        columns = step.window.columns()
        held = canvas.tokens.gather(-1, columns)
        guess, score = self.guess(without(raw, self.never), rng)
        after = self.move(guess, held, step, rng, raw.shape[-1] - (self.never is not None))
        open = canvas.open.gather(-1, columns)
        done = _written(canvas, columns, torch.where(open, after, held), score)
        return replace(done, open=canvas.open.scatter(-1, columns, open & (step.s > 0)))

    def guess(self, raw: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """Clean tokens Long[B, W], and their probabilities at temperature 1."""
        if self.temperature:
            tokens = draw((raw.float() / self.temperature).softmax(-1), rng.fork(_GUESS))
        else:
            tokens = raw.argmax(-1)
        return tokens, raw.float().softmax(-1).gather(-1, tokens[..., None])[..., 0]

    def move(self, guess: Tensor, held: Tensor, step: Step, rng: Rng, vocab: int) -> Tensor:
        """x_s ~ q(x_s | x_t, x_0 = guess), Long[B, W], route by route; `vocab` ids are drawn.

        With a = alpha_t / alpha_s and b = alpha_s the routes weigh b (1 - a) / V + a b [x_t = x_0] (clean),
        a (1 - b) / V (stay) and (1 - a) (1 - b) / V (random).
        """
        b = self.schedule.alpha(step.s)
        a = self.schedule.alpha(step.t) / b
        clean = b * (1 - a) / vocab + a * b * (held == guess)
        stay, random = (weight.expand_as(clean) for weight in (a * (1 - b) / vocab, (1 - a) * (1 - b) / vocab))
        route = draw(torch.stack([clean, stay, random], -1), rng.fork(_ROUTE))
        noise = (rng.fork(_RANDOM).uniform(tuple(held.shape), held.device) * vocab).long()
        noise = noise if self.never is None else noise + (noise >= self.never).long()
        return torch.where(route == 0, guess, torch.where(route == 1, held, noise))


@dataclass(frozen=True)
class Gibbs:
    """One sweep at level s: the `count` most doubtful columns of the window are drawn again."""

    schedule: Survival
    doubt: Doubt | None = None
    """None picks columns at random."""
    count: int = 1
    temperature: float = 1.0
    """Of the choice of columns; near 0 it is always the most doubtful."""
    never: int | None = None
    """An id that noise does not draw, [MASK]; None: it draws all V."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.temperature <= 0:
            raise ConfigError(
                f"cannot draw {self.count} columns again at a temperature of {self.temperature}: "
                "take at least 1 column and a temperature above 0"
            )

    def __call__(self, raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        """The canvas after the sweep, from logits Float[B, W, V] of the canvas as it stands."""
        columns = step.window.columns()
        held = canvas.tokens.gather(-1, columns)
        open = canvas.open.gather(-1, columns)
        logp = self.levels(raw, canvas, step)
        chosen = self.choose(logp, held, open, rng)
        again = draw(logp.gather(1, chosen[..., None].expand(-1, -1, logp.shape[-1])).exp(), rng.fork(_AGAIN))
        tokens = torch.where(open, held.scatter(-1, chosen, again), held)
        return _written(canvas, columns, tokens, logp.gather(-1, tokens[..., None])[..., 0].exp())

    def levels(self, raw: Tensor, canvas: Canvas, step: Step) -> Tensor:
        """log p_s(x_s column | all other columns), Float64[B, W, V]."""
        return conditional(
            raw, canvas.tokens.gather(-1, step.window.columns()), self.schedule.alpha(step.s), self.never
        )

    def choose(self, logp: Tensor, held: Tensor, open: Tensor, rng: Rng) -> Tensor:
        """Long[B, count]: columns of the window, by Gumbel's trick without replacement."""
        noise = rng.fork(_ORDER).gumbel(tuple(held.shape), held.device)
        keys = noise if self.doubt is None else self.doubt(logp, held) / self.temperature + noise
        return keys.masked_fill(~open, -torch.inf).topk(min(self.count, held.shape[1]), -1).indices


def improbable(logp: Tensor, held: Tensor) -> Tensor:
    """The column's own token is unlikely: -log p of it, Float[B, W] from Float[B, W, V]."""
    return -logp.gather(-1, held[..., None])[..., 0]


def flat(logp: Tensor, held: Tensor) -> Tensor:
    """No token is likely: minus the largest log p, Float[B, W] from Float[B, W, V]."""
    return -logp.amax(-1)


def contested(logp: Tensor, held: Tensor) -> Tensor:
    """Another token is likelier, or nearly: minus the margin of log p over the best other one; Float[B, W]."""
    others = logp.scatter(-1, held[..., None], -torch.inf)
    return others.amax(-1) - logp.gather(-1, held[..., None])[..., 0]


DOUBTS: dict[str, Doubt | None] = {"random": None, "improbable": improbable, "flat": flat, "contested": contested}


@config
class GibbsCorrector:
    """Sweeps between the steps of a sampler of uniform noise."""

    sweeps: int = Field(default=0, ge=0)
    """After each step but the last."""
    columns: int = Field(default=1, gt=0)
    """Drawn again in a sweep."""
    order: Literal["random", "improbable", "flat", "contested"] = "improbable"
    """Columns at random, or those whose token is unlikely, which have no likely token, whose token has a rival."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the choice of columns."""

    def rule(self, step_back: Rule, schedule: Survival, never: int | None) -> Rule:
        """`step_back` on the steps of a sampler, a sweep on those that `plan` puts between them."""
        return corrected(step_back, Gibbs(schedule, DOUBTS[self.order], self.columns, self.temperature, never))

    def plan(self, plan: Plan) -> Plan:
        """A plan with the sweeps in it."""
        return with_sweeps(plan, self.sweeps)


def without(raw: Tensor, never: int | None) -> Tensor:
    """Logits Float[B, W, V] with none of their mass on the id `never`."""
    return raw if never is None else raw.index_fill(-1, torch.tensor(never, device=raw.device), -torch.inf)


def leave_one_out(raw: Tensor, held: Tensor, alpha: Tensor, ids: int | None = None) -> Tensor:
    """Logits of p(x_0 | x_t without its own column) from those of p(x_0 | x_t) (2605.22765, eq. 13).

    The own token's logit loses log(1 + N alpha / (1 - alpha)), Bayes' factor of having seen it under uniform noise.

    Args:
        raw: Float[B, W, V].
        held: Long[B, W], the noisy tokens.
        alpha: Float[B, 1], survival; levels of 0 and 1 have nothing to take away, or nothing that could be.
        ids: N, how many ids noise draws; None: all V.
    """
    inside = (alpha > 0) & (alpha < 1)
    odds = torch.where(inside, alpha / (1 - torch.where(inside, alpha, 0.5)), 0.0)
    seen = torch.log1p((ids or raw.shape[-1]) * odds).to(raw.dtype).expand(held.shape)
    return raw.scatter_add(-1, held[..., None], -seen[..., None])


def conditional(raw: Tensor, held: Tensor, alpha: Tensor, never: int | None = None) -> Tensor:
    """log p_s(x_s column | all other columns), Float64[B, W, V]: alpha leave-one-out + (1 - alpha) / N."""
    alpha, ids = alpha.double(), raw.shape[-1] - (never is not None)
    alone = leave_one_out(without(raw.double(), never), held, alpha, ids)
    clean = alone.log_softmax(-1) + alpha.log()[..., None]
    return without(torch.logaddexp(clean, (torch.log1p(-alpha) - math.log(ids))[..., None]), never)


def corrected(step_back: Rule, sweep: Rule) -> Rule:
    """`step_back` on steps that move, `sweep` on those that stand still; for plans made by `with_sweeps`."""

    def rule(raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        moved, swept = step_back(raw, canvas, step, rng), sweep(raw, canvas, step, rng)
        moves = step.t > step.s
        return replace(
            moved,
            tokens=torch.where(moves, moved.tokens, swept.tokens),
            open=torch.where(moves, moved.open, swept.open),
            score=torch.where(moves, moved.score, swept.score),
            born=torch.where(moves, moved.born, swept.born),
        )

    return rule


def with_sweeps(plan: Plan, sweeps: int) -> Plan:
    """Every step of a plan but the last of a window, followed by `sweeps` steps that stay at its level."""

    def swept(canvas: Canvas) -> Steps:
        steps = plan(canvas)
        step = next(steps, None)
        while step is not None:
            state = yield step
            for _ in range(sweeps if bool((step.s > 0).any()) else 0):
                state = (yield replace(step, t=step.s)) or state
            try:
                step = steps.send(state)
            except StopIteration:
                return

    return swept


def _written(canvas: Canvas, columns: Tensor, tokens: Tensor, score: Tensor) -> Canvas:
    changed = tokens != canvas.tokens.gather(-1, columns)
    born = torch.where(changed, canvas.step[:, None], canvas.born.gather(-1, columns))
    return replace(
        canvas,
        tokens=canvas.tokens.scatter(-1, columns, tokens),
        score=canvas.score.scatter(-1, columns, score.to(canvas.score.dtype)),
        born=canvas.born.scatter(-1, columns, born),
        step=canvas.step + canvas.open.any(-1).to(canvas.step.dtype),
    )
