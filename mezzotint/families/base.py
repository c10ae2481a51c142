"""What a family card hands out: everything that distinguishes one paper's model from another's."""

from dataclasses import dataclass

from mezzotint.decode.grid import Update
from mezzotint.decode.rule import Rule
from mezzotint.objectives.base import Objective
from mezzotint.processes.base import Process


@dataclass(frozen=True)
class Family:
    """A wired paper."""

    process: Process
    objective: Objective
    """The paper's training loss."""
    rule: Rule
    """The paper's own sampler, as a decoding rule; others may be used instead."""
    update: Update | None = None
    """One step of the sampler on its own, (raw, x_t, t, s, rng) -> x_s, where the rule walks a grid of times."""
    bound: Objective | None = None
    """The bound on -log p in nats per token, where the training loss is another one."""
