"""What a model is, in plain values."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ModelInfo:
    """What `Model.info` says."""

    name: str
    kind: str
    """"hybrid": causal with a diffusion drafter; "causal": without; "diffusion": a published or exported diffusion
    model; "trained": a run from scratch."""
    family: str
    """Of the papers: "ar", "llada", "mdlm", ..."""
    source: str
    """The file or folder."""
    backend: str
    """"native" or "torch"."""
    context: int
    """Most tokens of prompt and answer together."""
    vocabulary: int
    """Ids of the network."""
    parameters: int
    memory_bytes: int
    """Of the weights as they are held."""
    mask_id: int | None = None
    block: int | None = None
    """Columns of a block, for models that write block by block."""
    modes: tuple[str, ...] = ()
    """For `mode=`, the usual one first."""
    presets: tuple[str, ...] = ()
    """For `preset=`, the usual one first."""
    chat: bool = False
    """Whether it has a chat format; without one a prompt is continued."""
    fills: bool = False
    """Whether it fills holes."""

    def line(self) -> str:
        """In one line."""
        how = ", ".join(self.modes or self.presets[:1]) or "its family's sampler"
        size = f"{self.parameters / 1e6:.0f} M" if self.parameters >= 1e6 else f"{self.parameters / 1e3:.0f} k"
        kind = {"trained": f"trained {self.family}", "diffusion": f"diffusion ({self.family})"}.get(
            self.kind, self.kind
        )
        return f"{self.name}: {kind}, {size} parameters, context {self.context}, {how}, {self.backend}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
