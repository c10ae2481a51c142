"""Self-correction: finished texts corrected by the network that wrote them (GIDD, von Ruette et al. 2025, 2503.04482).

A network trained on random tokens also scores tokens that are there.  At a time near the clean end every column is
drawn anew, the surest of the draws that differ are written, and so on while the text agrees more and more with what the
network finds likeliest.  For families whose answer looks at all columns but the own one: GIDD, UDLM, Duo.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Span, Step
from mezzotint.decode.plan import Plan, Steps
from mezzotint.decode.rule import Rule
from mezzotint.errors import CanvasError
from mezzotint.rng import Rng, draw


@dataclass(frozen=True)
class SelfCorrection:
    """The rule: one pass over columns that are not given.

    Notes: the best text so far Long[B, L], its agreement Float[B], passes since then Long[B], rows under way Bool[B].
    A row agrees in the share of its columns that hold the likeliest token.  A row that is done holds its best text.
    """

    never: int
    """[MASK]."""
    temperature: float = 0.1
    tokens: int = 1
    """Columns written per pass at most."""
    patience: int = 32
    """Passes without more agreement after which a row is done; the paper does not tell."""

    def __call__(self, raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        """The canvas one pass later; `raw` is Float[B, L, V]."""
        raw = raw.double().index_fill(-1, torch.tensor(self.never, device=raw.device), -torch.inf)
        best, most, since, live = self._scored(raw, canvas, step.k == 0)
        drawn = draw((raw / self.temperature).softmax(-1), rng)
        chance = (raw / self.temperature).softmax(-1).gather(-1, drawn[..., None])[..., 0]
        chance = chance.masked_fill((drawn == canvas.tokens) | canvas.fixed, 0.0)
        top = chance.topk(min(self.tokens, chance.shape[1]), -1)
        write = torch.zeros_like(canvas.fixed).scatter(-1, top.indices, top.values > 0) & live[:, None]
        live = live & write.any(-1)
        tokens = torch.where(live[:, None], torch.where(write, drawn, canvas.tokens), best)
        return replace(
            canvas,
            tokens=tokens,
            score=torch.where(write, chance.to(canvas.score.dtype), canvas.score),
            born=torch.where(write, canvas.step[:, None], canvas.born),
            step=canvas.step + 1,
            notes=(best, most, since, live),
        )

    def _scored(self, raw: Tensor, canvas: Canvas, begins: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The notes with the present text in them."""
        free = ~canvas.fixed
        agree = ((raw.argmax(-1) == canvas.tokens) & free).sum(-1) / free.sum(-1).clamp_min(1)
        if begins:
            return canvas.tokens, agree, torch.zeros_like(canvas.seed), torch.ones_like(agree, dtype=torch.bool)
        best, most, since, live = canvas.notes
        better = live & (agree > most)
        since = torch.where(better, 0, since + 1)
        best = torch.where(better[:, None], canvas.tokens, best)
        return best, torch.where(better, agree, most), since, live & (since < self.patience)


@dataclass(frozen=True)
class CorrectionPasses:
    """The plan: the whole canvas at one time, until `SelfCorrection` has nothing left to do.

    Raises:
        CanvasError: columns that are still noise, when the plan is made.
    """

    t: float = 0.01
    passes: int = 128
    """At most."""

    def __call__(self, canvas: Canvas) -> Steps:
        if bool(canvas.open.any()):
            raise CanvasError("only finished texts can be corrected: decode the open columns first")
        rows = torch.zeros_like(canvas.seed)
        time = torch.full((len(rows), 1), self.t, device=rows.device)
        for k in range(self.passes):
            after = yield Step(Span(rows, canvas.tokens.shape[1]), rows, k, time, time)
            if after is None or not bool(after.notes[-1].any()):
                return


def correcting(rule: Rule, correction: SelfCorrection) -> Rule:
    """`rule` while something is undecided, then `correction`; for plans made by `then_corrected`."""

    def both(raw: Tensor, canvas: Canvas, step: Step, rng: Rng) -> Canvas:
        return (rule if bool(canvas.open.any()) else correction)(raw, canvas, step, rng)

    return both


def then_corrected(plan: Plan, passes: int) -> Plan:
    """Another plan, and behind it passes over the finished text, at most `passes`."""

    def steps(canvas: Canvas) -> Steps:
        first, last = plan(canvas), canvas
        step = next(first, None)
        while step is not None:
            after = yield step
            if after is None:
                raise CanvasError("a text is corrected once it is finished: use decode.loop.decode, which tells a plan")
            last = after
            try:
                step = first.send(last)
            except StopIteration:
                break
        yield from CorrectionPasses(passes=passes)(last)

    return steps
