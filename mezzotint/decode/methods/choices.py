"""Selection rules and caches of a preset, as records: which columns a step writes, which keys and values are kept."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mezzotint.config import Named, config
from mezzotint.decode.caches.policies import Delayed, Dual, FinishedBlocks, Policy, Prefix, Sorted, UpToBlock, nothing
from mezzotint.decode.caches.suffix_dropout import SuffixDropout
from mezzotint.decode.methods.entropy_bound import JointBound
from mezzotint.decode.methods.klass import KlassRule
from mezzotint.decode.rule import Rule, Unmask
from mezzotint.decode.select import (
    Above,
    AtMost,
    EntropyBound,
    Factor,
    Near,
    OnTime,
    Select,
    Top,
    by_budget,
    leftmost,
    most_confident,
)

Chance = Annotated[float, Field(ge=0)]


class ColumnChoice:
    """Which columns a step writes: a selector, and what it needs beside the confidences of open columns."""

    needs_whole_window: ClassVar[bool] = False
    """It looks at every column of the window, decided ones too, or at distances between them."""
    depends_on_history: ClassVar[bool] = False
    """It looks at earlier steps, so that what comes next does not follow from the canvas alone."""

    @property
    def may_write_nothing(self) -> bool:
        """Whether a step that the schedule gives no column writes none."""
        return False

    def build(self) -> Select:
        """The selector."""
        raise NotImplementedError

    def rule(self, rule: Unmask, by_entropy: bool) -> Rule:
        """The rule that this choice makes of one with its selector.

        Args:
            rule: selects by `build`.
            by_entropy: whether its confidences are negative entropies.
        """
        return rule


@config
class Scheduled(ColumnChoice):
    """As many as the schedule says, at least one, the surest first."""

    kind: Literal["scheduled"] = "scheduled"
    exact: bool = False
    """Commit nothing where the schedule says nothing, as Dream does."""

    @property
    def may_write_nothing(self) -> bool:
        return self.exact

    def build(self) -> Select:
        return by_budget if self.exact else most_confident


@config
class Sequential(ColumnChoice):
    """As many as the schedule says, from left to right."""

    kind: Literal["sequential"] = "sequential"

    def build(self) -> Select:
        return leftmost


@config
class TopN(ColumnChoice):
    """The `n` surest, whatever the schedule says."""

    kind: Literal["top"] = "top"
    n: int = Field(default=1, gt=0)

    def build(self) -> Select:
        return Top(self.n)


@config
class Threshold(ColumnChoice):
    """All that are surer than `tau`; with entropies as confidence, `tau` is minus the largest one in nats."""

    kind: Literal["threshold"] = "threshold"
    tau: float = 0.9
    least: Literal["one", "schedule"] = "one"
    """Always the surest one, or as many as the schedule says."""
    capped: bool = False
    """At most as many as the schedule says so far."""

    def build(self) -> Select:
        chosen = Above(self.tau) if self.least == "one" else OnTime(Above(self.tau, always=False))
        return AtMost(chosen) if self.capped else chosen


@config
class ByFactor(ColumnChoice):
    """The most columns n, surest first, with (n + 1) (1 - c_n) < f."""

    kind: Literal["factor"] = "factor"
    f: Chance = 1.0
    lenient: bool = False
    """As the published loop, which takes the last column too where it alone fails."""

    def build(self) -> Select:
        return Factor(self.f, self.lenient)


@config
class Bounded(ColumnChoice):
    """The surest columns whose entropies sum to at most `gamma` nats, the largest not counted."""

    kind: Literal["entropy-bound"] = "entropy-bound"
    gamma: Chance = 0.1
    inclusive: bool = False
    """Count the largest entropy too."""

    def build(self) -> Select:
        return EntropyBound(self.gamma, self.inclusive)

    def rule(self, rule: Unmask, by_entropy: bool) -> Rule:
        return rule if by_entropy else JointBound(rule, self.gamma)


@config
class Leap(ColumnChoice):
    """The scheduled columns, and the sure ones around those that are very sure."""

    needs_whole_window: ClassVar[bool] = True
    kind: Literal["leap"] = "leap"
    anchor: Chance = 0.9
    near: Chance = 0.75
    reach: int = Field(default=4, ge=0)
    every: bool = False
    """Every sure column is an anchor, not only those of the step."""

    def build(self) -> Select:
        return Near(most_confident, self.anchor, self.near, self.reach, self.every)


@config
class Klass(ColumnChoice):
    """Sure columns whose prediction has stopped moving, else the scheduled ones."""

    needs_whole_window: ClassVar[bool] = True
    depends_on_history: ClassVar[bool] = True
    kind: Literal["klass"] = "klass"
    tau: Chance = 0.6
    eps: Chance = 0.015
    history: int = Field(default=2, gt=0)

    def build(self) -> Select:
        """What is written where no prediction has stopped moving."""
        return most_confident

    def rule(self, rule: Unmask, by_entropy: bool) -> Rule:
        return KlassRule(rule, self.tau, self.eps, self.history)


Choice = Annotated[
    Scheduled | Sequential | TopN | Threshold | ByFactor | Bounded | Leap | Klass, Field(discriminator="kind"), Named
]


@config
class NoCache:
    """Everything is read in every step."""

    kind: Literal["none"] = "none"

    def build(self, block: int | None, seeded: bool) -> Policy:
        return nothing if block is None else UpToBlock(block)


@config
class PrefixCache:
    """What stands before the window is read once per window."""

    kind: Literal["prefix"] = "prefix"
    every: int | None = Field(default=None, gt=0)
    """Read everything again after so many steps too."""

    def build(self, block: int | None, seeded: bool) -> Policy:
        return Prefix(self.every, seeded=seeded) if block is None else FinishedBlocks(block)


@config
class DualCache:
    """What stands before and behind the window is read once per window."""

    kind: Literal["dual"] = "dual"
    every: int | None = Field(default=None, gt=0)
    """Read everything again after so many steps too."""
    back: int = Field(default=0, ge=0)
    ahead: int = Field(default=0, ge=0)
    """Columns before and behind the window that are read with it."""

    def build(self, block: int | None, seeded: bool) -> Policy:
        return Dual(self.every, self.back, self.ahead, seeded) if block is None else FinishedBlocks(block)


@config
class DelayedCache:
    """A column is kept once it was read decided; everything is read again every `every` steps."""

    kind: Literal["delayed"] = "delayed"
    every: int = Field(default=8, gt=0)

    def build(self, block: int | None, seeded: bool) -> Policy:
        return Delayed(self.every) if block is None else FinishedBlocks(block)


@config
class ExactCache:
    """Finished blocks of a block-causal network are read once; a network without blocks keeps nothing."""

    kind: Literal["exact"] = "exact"
    fused: bool = True
    """Read a finished block in the same pass as the next one begins."""

    def build(self, block: int | None, seeded: bool) -> Policy:
        return nothing if block is None else FinishedBlocks(block, self.fused)


@config
class SortedCache:
    """Decided columns stand before open ones, and their run at the beginning is read once; for causal networks."""

    kind: Literal["sorted"] = "sorted"
    keep: bool = True

    def build(self, block: int | None, seeded: bool) -> Policy:
        return Sorted(self.keep)


@config
class ThinnedSuffix:
    """Nothing is kept, but most masks behind the window are not read: DPad."""

    kind: Literal["thinned"] = "thinned"
    reach: int = Field(default=256, ge=0)
    """Columns behind the window of which some are read."""
    sigma: float = Field(default=4.0, ge=0)
    """How many standard deviations of the normal curve these columns span."""
    scale: float = Field(default=2.0, ge=0)
    """By what its density is multiplied to be the chance of being read."""
    seed: int = 0

    def build(self, block: int | None, seeded: bool) -> Policy:
        return SuffixDropout(self.reach, self.sigma, self.scale, self.seed) if block is None else FinishedBlocks(block)


Cache = Annotated[
    NoCache | PrefixCache | DualCache | DelayedCache | ExactCache | SortedCache | ThinnedSuffix,
    Field(discriminator="kind"),
    Named,
]
"""On a block-causal network every cache is the exact one: it costs less, and approximates nothing."""
