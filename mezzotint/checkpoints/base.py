"""What a checkpoint is to the rest of the library: named float tensors, a configuration and a tokenizer.

Names and configuration keys are those of the Hugging Face layout (`model.layers.0.self_attn.q_proj.weight`,
`hidden_size`), rows of q and k are in rotate-half order; containers that store something else translate on reading.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from mezzotint.errors import CheckpointError

BLOCK = 32
"""Weights that share one scale in the quantised containers read here (llama.cpp's QK4_1 and QK8_0)."""


@dataclass(frozen=True, slots=True)
class QuantisedBlocks:
    """A quantised matrix as stored: value = scale * code (+ minimum), one scale per 32 inputs of a row.

    `scale` and `minimum` are Float32[out, in / 32] (exact images of the stored halves); `codes` is UInt8[out, in] with
    values 0..15 for "q4_1" and Int8[out, in] for "q8_0", which has no minimum.
    """

    kind: Literal["q4_1", "q8_0"]
    scale: np.ndarray
    minimum: np.ndarray | None
    codes: np.ndarray

    def dequantised(self) -> np.ndarray:
        """Float32[out, in]."""
        rows, columns = self.codes.shape
        values = self.codes.reshape(rows, -1, BLOCK).astype(np.float32)
        values *= self.scale[..., None]
        if self.minimum is not None:
            values += self.minimum[..., None]
        return values.reshape(rows, columns)


class Tensor(Protocol):
    """One tensor of a container, read on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Outermost dimension first: (out, in) for a matrix."""
        ...

    @property
    def file(self) -> Path:
        """The file that holds it, for messages."""
        ...

    @property
    def dtype(self) -> str:
        """The stored type, as the container names it in lower case."""
        ...

    def read(self) -> np.ndarray:
        """Float32[shape], a new array."""
        ...

    def blocks(self) -> QuantisedBlocks | None:
        """The stored blocks, when the container is quantised in a kind `QuantisedBlocks` knows."""
        ...


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """Everything needed to turn text into ids and back."""

    json: str
    """A `tokenizers` JSON document."""
    chat_template: str
    """Jinja source; empty when the model has none."""
    special: dict[str, int]
    """Control tokens by their text."""
    eos_ids: tuple[int, ...]
    """Ids that end an answer, the model's own first."""
    bos: str = ""
    """Text of the first token, for templates that ask for it; empty when unknown."""
    named: dict[str, int] = field(default_factory=dict)
    """Ids by role ("mask", "pad") where the tokenizer's settings give a token one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened checkpoint; tensors stay on disk until they are asked for."""

    name: str
    path: Path
    config: dict[str, Any]
    tokenizer: TokenizerSpec
    tensors: Mapping[str, Tensor]
    generation: dict[str, Any] = field(default_factory=dict)
    """What generation_config.json says; empty where there is none."""

    def names(self) -> list[str]:
        """Names of all stored tensors."""
        return list(self.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self._stored(name).shape

    def tensor(self, name: str) -> np.ndarray:
        """Float32[out, in] (or [out] for vectors), dequantised, a new array."""
        return self._stored(name).read()

    def blocks(self, name: str) -> QuantisedBlocks | None:
        """The quantised blocks of a tensor, None where it is stored as plain floats or in another quantisation."""
        return self._stored(name).blocks()

    def parameters(self) -> int:
        """Number of stored weights."""
        return sum(int(np.prod(tensor.shape)) for tensor in self.tensors.values())

    def _stored(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise CheckpointError(
                f"{self.path} has no tensor {name}: the file is incomplete or of another architecture"
            )
        return self.tensors[name]
