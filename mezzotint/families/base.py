"""What a family card hands out: everything that distinguishes one paper's model from another's."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from mezzotint.decode.guidance.classifier import Chances
from mezzotint.decode.guidance.gradients import Moments
from mezzotint.decode.plan import Plan
from mezzotint.decode.rule import Rule
from mezzotint.families.forms.tokens import CanvasForm, Tokens, even_steps
from mezzotint.layouts import Full, Layout
from mezzotint.objectives.base import Objective
from mezzotint.objectives.denoising import TokenLoss
from mezzotint.processes.base import Process


@dataclass(frozen=True)
class Family:
    """A wired paper."""

    process: Process
    objective: Objective
    """The paper's training loss."""
    rule: Rule | None = None
    """The paper's own sampler, as a decoding rule; None: `method`."""
    method: str = ""
    """The preset of decode/methods/registry.py that decodes what was trained, for families that start from a causal
    model; their exports name it."""
    bound: Objective | None = None
    """The bound on -log p in nats per token, where the training loss is another one."""
    reading: Layout = Full()  # noqa: RUF009 - frozen and without state
    """How the network reads a canvas that is being written."""
    block: int | None = None
    """Columns that are written together, at multiples of this; None: all of them."""
    lookback: int = 0
    """1 where the network says at a column what it thinks of the next one, as causal networks do."""
    form: CanvasForm | None = None
    """How texts lie on a canvas, for models from scratch; None: one column per token, all read in every step."""
    chances: Chances | None = None
    """(raw, x_t, t, s) -> Float[B, W, V], what the sampler draws from, where guidance may change it."""
    moments: Moments | None = None
    """(raw, z_t, t, s) -> mean and deviation of what the sampler draws, where it is normal and may be steered."""
    exact: bool = False
    """Whether what measures it is -log p itself, and no bound."""
    logits: bool = True
    """Whether the network answers logits of p(x_0 | x_t), which a temperature and a nucleus can shape."""


def with_corrector(family: Family, rule: Rule, plan: Callable[[Plan], Plan]) -> Family:
    """A family of one column per token whose sampler is `rule`, on its steps as `plan` changes them."""
    form = Tokens(family.process.prior, planned=lambda size, steps: plan(even_steps(size, steps)))
    return replace(family, rule=rule, form=form)


def objective_of(family: Family) -> Objective:
    """What measures a family: its bound, or else its loss, which then is one."""
    return family.bound or family.objective


@runtime_checkable
class FamilyRecord(Protocol):
    """The settings of a family, a class under `config`: what run.json keeps."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids, the one of [MASK] included."""
        ...


def log_p(raw: Tensor, never: int | None = None) -> Tensor:
    """Logits Float[B, L, V] -> log-probabilities, at least float32; none of it on the id `never`."""
    raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
    if never is not None:
        raw = raw.index_fill(-1, torch.tensor(never, device=raw.device), -torch.inf)
    return raw.log_softmax(-1)


def informed(seen: Callable[[Tensor, Tensor, Tensor], Tensor], never: int | None) -> TokenLoss:
    """-log p(x_0 | x_t), Float[B, L], in every column, corrupted or not, of answers without the column's own token.

    `seen` (raw, x_t, t) puts in what that token says.
    """

    def token_loss(raw: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return -log_p(seen(raw, x_t, t), never).gather(-1, x_0[..., None])[..., 0]

    return token_loss
