"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan et al. 2024; 2502.16982, eq. 1)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz step; they trade exactness for speed: singular values end between about 0.7 and 1.2."""
_LARGEST = torch.finfo(torch.float32).max


class Muon(torch.optim.Optimizer):
    """Muon for groups with `orthogonal`, AdamW for the others.

    A group's learning rate is `lr * scale`, so that one schedule drives both kinds.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float = 0.95, rounds: int = 4) -> None:
        defaults = {
            "lr": lr,
            "scale": 1.0,
            "momentum": momentum,
            "rounds": rounds,
            "betas": (0.9, 0.98),
            "eps": 1e-8,
            "weight_decay": 0.0,
            "orthogonal": False,
        }
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            # a float32 takes no larger factor; such a rate breaks the weights, and that is what the trainer reports
            rate = min(group["lr"] * group["scale"], _LARGEST)
            update = self._orthogonal if group["orthogonal"] else self._adam
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(update(parameter, gradient, group), alpha=-rate)

    def _orthogonal(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        moment = state["momentum"].mul_(group["momentum"]).add_(gradient)
        nesterov = gradient + group["momentum"] * moment
        rows, columns = parameter.shape
        return orthogonalised(nesterov, group["rounds"]) * max(1.0, rows / columns) ** 0.5

    def _adam(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        count = float(state["step"])
        mean = state["mean"].lerp_(gradient, 1 - first) / (1 - first**count)
        square = state["square"].lerp_(gradient.square(), 1 - second) / (1 - second**count)
        return mean / (square.sqrt() + group["eps"])


def orthogonalised(matrix: Tensor, rounds: int) -> Tensor:
    """Float[m, n] with the singular vectors of `matrix` and singular values near one, by Newton-Schulz."""
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.T
