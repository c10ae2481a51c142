"""Averaged weights: w <- w + (1 - decay_n) (p - w), with decay_n = min(decay, (1 + n) / (10 + n)) after n updates.

The warm-up of the decay is that of the SEDD and MDLM code; it keeps early averages from remembering the initial
weights.  Their checkpoints hold the averages of trained parameters as a list without names, in the network's order:
`published` and `adopt` write and read that form.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mezzotint.errors import CheckpointError


class Average:
    """The running average of some parameters, by name."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay, self.updates = parameters, decay, 0
        self.weights: dict[str, Tensor] = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the current parameters."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = [p.detach() for p in self.parameters.values()]
        torch._foreach_lerp_(list(self.weights.values()), current, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block, the parameters hold the average."""
        kept = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._write(self.weights)
        try:
            yield
        finally:
            self._write(kept)

    def published(self) -> dict[str, Any]:
        """The state as the checkpoints of SEDD, MDLM, BD3LM and UDLM hold it."""
        return {"decay": self.decay, "num_updates": self.updates, "shadow_params": list(self.weights.values())}

    @torch.no_grad()
    def adopt(self, state: dict[str, Any]) -> None:
        """Go on from such a state, made from a network with the same trained parameters in the same order.

        Raises:
            CheckpointError: another number of parameters, or another shape.
        """
        shadow: list[Tensor] = state["shadow_params"]
        shapes, wanted = [list(p.shape) for p in shadow], [list(p.shape) for p in self.weights.values()]
        if shapes != wanted:
            differ = next((i for i, (a, b) in enumerate(zip(shapes, wanted, strict=False)) if a != b), "the last")
            raise CheckpointError(
                f"cannot read {len(shapes)} averaged parameters into a network with {len(wanted)}: "
                f"they differ from number {differ} on; build the network that the checkpoint was made from"
            )
        for name, value in zip(self.weights, shadow, strict=True):
            self.weights[name].copy_(value)
        self.decay, self.updates = state["decay"], state["num_updates"]

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])
