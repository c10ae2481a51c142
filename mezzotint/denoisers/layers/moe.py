"""Mixtures of experts: a router chooses a few feed-forward networks for every column.

Routers are values: (scores, bias) -> (Long[n, k] experts, Float[n, k] weights), from Float[n, E] scores in 32 bits.
Published models differ in nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Gate = Callable[[Tensor], Tensor]


class Router(Protocol):
    """The router of a mixture of experts."""

    @property
    def chosen(self) -> int:
        """Experts per column."""
        ...

    def __call__(self, scores: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Long[n, k] experts and Float[n, k] weights from Float[n, E] scores and Float[E], Float[n, E] or None."""
        ...


@dataclass(frozen=True)
class Softmax:
    """The k likeliest experts, weighed by their probabilities (Qwen3-MoE: SDAR, RND1; LLaDA-MoE).

    A bias is added to the probabilities, and then stays in the weights too, as LLaDA-MoE's code has it (2509.24389).
    """

    chosen: int
    renormalised: bool
    """Whether the weights of a column sum to one."""

    def __call__(self, scores: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Experts and weights from Float[n, E] scores and Float[E] or None."""
        p = scores.softmax(-1)
        weight, index = (p if bias is None else p + bias).topk(self.chosen, -1)
        return index, weight / weight.sum(-1, keepdim=True) if self.renormalised else weight


@dataclass(frozen=True)
class Grouped:
    """Experts stand in groups; only the best groups compete (LLaDA2, DeepSeek-V3's router, 2412.19437, eqs. 13-16).

    Sigmoid scores; the bias takes part in the choice and not in the weights; a group counts as the sum of its two best.
    """

    chosen: int
    groups: int
    kept: int
    """Groups that compete."""
    scale: float
    renormalised: bool = True

    def __call__(self, scores: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Experts and weights from Float[n, E] scores and Float[E] or None."""
        p = scores.sigmoid()
        ranked = p if bias is None else p + bias
        grouped = ranked.view(len(ranked), self.groups, -1)
        best = grouped.topk(min(2, grouped.shape[-1]), -1).values.sum(-1).topk(self.kept, -1).indices
        out = torch.ones(grouped.shape[:2], dtype=torch.bool, device=p.device).scatter(-1, best, False)
        index = grouped.masked_fill(out[..., None], -torch.inf).flatten(1).topk(self.chosen, -1).indices
        weight = p.gather(-1, index)
        if self.renormalised:
            weight = weight / (weight.sum(-1, keepdim=True) + 1e-20)
        return index, weight * self.scale


@dataclass(frozen=True)
class BlockRouting:
    """The experts that a block may use: those that some column of it wants most (LLaDA2.2's block routing).

    An expert counts as the largest of its sigmoid scores over the block, its bias included as in `Grouped`'s choice.
    What is read must begin where a block does, as block by block decoding has it.
    """

    admitted: int
    block: int

    def __call__(self, scores: Tensor, bias: Tensor | None, columns: int) -> Tensor:
        """Float[n, E], a bias for every column: -inf for what its block does not admit.

        Args:
            scores: Float[n, E] of whole rows of `columns` columns.
            bias: Float[E] or None.
            columns: of a row.
        """
        p = scores.sigmoid()
        wanted = (p if bias is None else p + bias).view(-1, columns, p.shape[-1])
        wanted = F.pad(wanted, (0, 0, 0, -columns % self.block), value=-torch.inf).unflatten(1, (-1, self.block))
        best = wanted.amax(2).topk(min(self.admitted, p.shape[-1]), -1).indices
        out = torch.full_like(wanted[:, :, 0], -torch.inf).scatter(-1, best, 0.0)
        each = out.repeat_interleave(self.block, 1)[:, :columns].flatten(0, 1)
        return each if bias is None else each + bias


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
    """Sizes of the mixture of experts of one layer."""

    count: int
    inner: int
    """Inner width of one expert."""
    router: Router
    biased: bool = False
    """Whether the router has a bias per expert."""
    shared: int = 0
    """Inner width of the network that every column passes; 0 is none."""
    pool: BlockRouting | None = None
    """What a block may choose from; None is everything."""


class Experts(nn.Module):
    """Float[..., width] -> Float[..., width].

    Parameters are `router`, `bias`, the stacks `gate_up` and `down`, and `shared.{gate,up,down}`.
    """

    def __init__(self, config: ExpertsConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.router = nn.Linear(width, config.count, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.count)) if config.biased else None
        self.gate_up = ExpertStack(config.count, 2 * config.inner, width)
        self.down = ExpertStack(config.count, width, config.inner)
        self.shared = Gated(width, config.shared) if config.shared else None

    def forward(self, x: Tensor) -> Tensor:
        """Every column through its experts, and through the shared one."""
        rows = x.reshape(-1, x.shape[-1])
        index, weight = self.route(rows, x.shape[-2])
        y = mixed(rows, index, weight.to(x.dtype), self.gate_up, self.down)
        if self.shared is not None:
            y = y + self.shared(rows)
        return y.view(x.shape)

    def route(self, rows: Tensor, columns: int = 1) -> tuple[Tensor, Tensor]:
        """Long[n, k] experts and Float[n, k] weights of Float[n, width], rows of `columns` columns, in 32 bits."""
        scores = F.linear(rows.float(), self.router.weight.float())
        bias = None if self.bias is None else self.bias.float()
        if self.config.pool is not None:
            bias = self.config.pool(scores, bias, columns)
        return self.config.router(scores, bias)


class ExpertStack(nn.Module):
    """E matrices of one shape, `weight` Float[E, out, in]."""

    def __init__(self, count: int, out: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, out, width))
        nn.init.normal_(self.weight, std=width**-0.5)

    def forward(self, x: Tensor, one: int) -> Tensor:
        """Float[n, in] -> Float[n, out] through matrix `one`."""
        return F.linear(x, self.weight[one])


class Gated(nn.Module):
    """A SwiGLU feed-forward (2002.05202, eq. 6)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Float[..., width] -> Float[..., width]."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


def mixed(
    rows: Tensor, index: Tensor, weight: Tensor, gate_up: nn.Module, down: nn.Module, gate: Gate = F.silu
) -> Tensor:
    """Float[n, D]: each row of Float[n, D] through the experts Long[n, k], summed with Float[n, k].

    `gate_up` and `down` are called as (Float[m, in], expert); only experts that some row chose are run.
    """
    order = index.flatten().argsort(stable=True)
    counts = index.flatten().bincount().tolist()
    row, share = order // index.shape[1], weight.flatten()[order]
    y, start = torch.zeros_like(rows), 0
    for expert, count in enumerate(counts):
        if not count:
            continue
        here = slice(start, start + count)
        left, right = gate_up(rows[row[here]], expert).chunk(2, -1)
        y.index_add_(0, row[here], down(gate(left) * right, expert) * share[here, None])
        start += count
    return y
