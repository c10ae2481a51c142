"""Networks that read and answer with vectors, around the trunk that other families share.

Diffusion-LM (2205.14217, App. F): Linear-Tanh-Linear into the trunk and out of it, x_0 predicted directly.  SED
(2211.04236, sec. 3): beside the noisy vectors the network reads its last estimate, the given columns and which those
are, each on features of their own.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from mezzotint.config import config
from mezzotint.denoisers.networks.small_transformer import Transformer, TransformerConfig, per_column
from mezzotint.errors import ConfigError
from mezzotint.layouts import Inputs
from mezzotint.processes.gaussian import Gaussian


@config
class EmbeddingNetworkConfig:
    """The shape of a network on vectors."""

    trunk: TransformerConfig = TransformerConfig(timed=True)
    conditions: bool = False
    """Given columns, those at time 0, come in on features of their own, as do estimates; SED needs it."""
    skip: bool = Field(default=False)
    """Answer the noisy vector plus a change: learns faster where little noise is left; the papers do without."""

    def build(self, process: Gaussian) -> "EmbeddingNetwork":
        """A fresh network between vectors of the process.

        Raises:
            ConfigError: a trunk that is not told the time.
        """
        if not self.trunk.timed:
            raise ConfigError("a network on vectors must be told the time: set trunk.timed=true")
        return EmbeddingNetwork(self, process)


class EmbeddingNetwork(nn.Module):
    """Inputs Float[B, N, E], or Float[B, N, 2 E] with estimates behind the noisy vectors -> Float[B, N, E].

    It carries the process along, so that trainable embeddings and heads are optimised, averaged and saved with it.
    """

    lookback = 0

    def __init__(self, shape: EmbeddingNetworkConfig, process: Gaussian) -> None:
        super().__init__()
        width, inner = process.width, shape.trunk.width
        self.process, self.width = process, width
        self.conditions, self.skip = shape.conditions, shape.skip
        self.up = _bridge(3 * width + 1 if shape.conditions else width, inner)
        self.trunk = _trunk(shape.trunk)
        self.down = nn.Sequential(nn.Linear(inner, inner), nn.Tanh(), nn.Linear(inner, width))

    def forward(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        """The clean vectors Float[B, N, E], as the network estimates them.

        Raises:
            ConfigError: no time was given.
        """
        if t is None:
            raise ConfigError("a network on vectors must be given the time")
        z = inputs.x[..., : self.width]
        h = self.trunk.hidden(_with(inputs, self.up(self._features(inputs.x, t))), t)
        return self.down(h) + z if self.skip else self.down(h)

    def _features(self, x: Tensor, t: Tensor) -> Tensor:
        z, estimate = x[..., : self.width], x[..., self.width :]
        if not self.conditions:
            if estimate.shape[-1]:
                raise ConfigError("this network reads no estimates: build it with conditions=true")
            return z
        if not estimate.shape[-1]:
            estimate = torch.zeros_like(z)
        given = (per_column(t, x.shape[1]) == 0).expand(x.shape[:2])[..., None]
        # of a given column nothing is estimated, and samplers need not have an answer for it
        shown = (z.masked_fill(given, 0), estimate.masked_fill(given, 0), z.masked_fill(~given, 0))
        return torch.cat([*shown, given.to(z.dtype)], -1)


class NoisyTextClassifier(nn.Module):
    """Inputs Float[B, N, E] -> logits: Float[B, classes] of texts, or Float[B, N, classes] of columns (`tagging`)."""

    def __init__(self, shape: TransformerConfig, width: int, classes: int, *, tagging: bool = False) -> None:
        super().__init__()
        self.up, self.trunk = _bridge(width, shape.width), _trunk(shape)
        self.head, self.tagging = nn.Linear(shape.width, classes), tagging

    def forward(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        """Logits of the classes; padding, where `inputs.attend` names it, is left out of a text's mean."""
        h = self.trunk.hidden(_with(inputs, self.up(inputs.x)), t)
        if self.tagging:
            return self.head(h)
        valid = inputs.attend.valid
        if valid is None:
            return self.head(h.mean(1))
        share = valid.to(h.dtype) / valid.sum(-1, keepdim=True).clamp_min(1)
        return self.head((h * share[..., None]).sum(1))


def _bridge(width: int, inner: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, inner), nn.Tanh(), nn.Linear(inner, inner))


def _trunk(shape: TransformerConfig) -> Transformer:
    trunk = shape.build(1)
    # vectors come in and go out: there is no vocabulary to embed or to score
    del trunk.embed, trunk.head
    return trunk


def _with(inputs: Inputs, x: Tensor) -> Inputs:
    return Inputs(x, inputs.positions, inputs.attend, inputs.label, inputs.memory)
