"""The shared DiT: bidirectional transformer whose layer norms are modulated by the noise level and a class (adaLN).

One network carries SEDD (2310.16834), MDLM (2406.07524), UDLM (2412.10193) and BD3LM (2503.09573); parameters have the
names of their published checkpoints, so these load as they are.  adaLN-zero is that of DiT (2212.09748, sec. 3.2).
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mezzotint.config import config
from mezzotint.denoisers.layers.attention import Mixer, mixer
from mezzotint.denoisers.layers.fused_ops import rotate
from mezzotint.denoisers.layers.kv_cache import KVCache, appended
from mezzotint.denoisers.networks.small_transformer import per_column, picked, rates, sinusoids, turns
from mezzotint.errors import ConfigError
from mezzotint.layouts import Attend, Inputs, Memory

Level = Callable[[Tensor], Tensor]
"""t -> what the network is told of it, same shape: the total noise -log alpha(t) in most papers."""


@config
class DiTConfig:
    """The shape of a DiT; the defaults are the published small one."""

    kind: Literal["dit"] = "dit"
    width: int = Field(default=768, gt=0)
    layers: int = Field(default=12, gt=0)
    heads: int = Field(default=12, gt=0)
    condition: int = Field(default=128, gt=0)
    """Width of the vector that modulates every block."""
    expansion: int = Field(default=4, gt=0)
    """Inner width of the feed-forward, in widths."""
    classes: int = Field(default=0, ge=0)
    """Classes it may be conditioned on; one more id, `classes`, stands for none."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    timed: bool = False
    """Tell the network the noise level; masked families do without."""

    def build(self, vocab: int, level: Level | None = None) -> "DiT":
        """A fresh network over `vocab` ids.

        Args:
            vocab: ids, [MASK] included.
            level: what the network hears of the time; None: `log_linear` where `timed`, else nothing.

        Raises:
            ConfigError: heads that do not divide the width into even parts.
        """
        self.check()
        return DiT(self, vocab, level or (log_linear if self.timed else None))

    def check(self) -> None:
        """Raises: ConfigError, heads that do not divide the width into even parts."""
        if self.width % (2 * self.heads):
            raise ConfigError(
                f"cannot split a width of {self.width} over {self.heads} heads: take a multiple of {2 * self.heads}"
            )


def log_linear(t: Tensor) -> Tensor:
    """Total noise -log(1 - 0.999 t) of the log-linear schedule, Float[B, 1 or N]: what published checkpoints read."""
    return -torch.log1p(-0.999 * t)


class Body(nn.Module):
    """Embedding, conditioning vector and blocks, shared by the denoiser and the classifier."""

    def __init__(self, shape: DiTConfig, vocab: int, level: Level | None) -> None:
        super().__init__()
        self.level = level
        self.vocab_embed = _Embedding(vocab, shape.width)
        self.sigma_map = _Told(shape.condition)
        self.rotary_emb = _Rotary(shape.width // shape.heads)
        self.blocks = nn.ModuleList([_Block(shape) for _ in range(shape.layers)])

    def condition(self, t: Tensor | None, inputs: Inputs) -> Tensor:
        """Float[B, 1 or N, condition]: the modulating vector.

        Raises:
            ConfigError: the network is told the noise level, and there is no time.
        """
        columns = inputs.x.shape[1]
        told = torch.zeros(inputs.x.shape[0], 1, device=inputs.x.device)
        if self.level is not None:
            if t is None:
                raise ConfigError("this network is told the noise level and was given no time")
            told = self.level(per_column(t, columns))
        return F.silu(self.sigma_map(told))

    def states(self, inputs: Inputs, c: Tensor) -> list[Tensor]:
        """Float[B, N, width] before the first block and after each one."""
        h, turn, mix = self.begin(inputs)
        states = [h]
        for depth, block in enumerate(self.blocks):
            states.append(block(states[-1], c, turn, mix, depth, inputs.memory))
        if inputs.memory is not None:
            inputs.memory.length += inputs.x.shape[1]
        return states

    def begin(self, inputs: Inputs) -> tuple[Tensor, Tensor, Mixer]:
        """Embedded columns Float[B, N, D], their rotations and the attention."""
        turn = turns(inputs.positions, self.rotary_emb.inv_freq)
        return self.vocab_embed(inputs.x), turn, mixer(inputs.attend, inputs.x.device)


class DiT(Body):
    """Inputs -> Float[B, N, V] from tokens Long[B, N] or from weights over tokens Float[B, N, V]."""

    lookback = 0

    def __init__(self, shape: DiTConfig, vocab: int, level: Level | None = None) -> None:
        super().__init__(shape, vocab, level)
        self.cond_map = _Classes(shape.classes + 1, shape.condition) if shape.classes else None
        self.output_layer = _Final(shape.width, vocab, shape.condition)

    @property
    def head(self) -> nn.Linear:
        """Float[n, width] -> Float[n, V]."""
        return self.output_layer.linear

    def forward(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        """Logits for every column, or SEDD's output before processes/score_parameterisation.py reads it."""
        return self.head(self.hidden(inputs, t))

    def hidden(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        """Float[B, N, width], normalised and modulated, ready for `head`."""
        c = self.condition(t, inputs)
        return self.output_layer(self.states(inputs, c)[-1], c)

    def hidden_at(self, inputs: Inputs, t: Tensor | None, rows: Tensor) -> Tensor:
        """Float[n, width]: `hidden` of the columns Long[n] `rows`, counted through [B, L] without the clean half."""
        columns = inputs.x.shape[1] // (1 if inputs.attend.twin is None else 2)
        return picked(self.hidden(inputs, t)[:, :columns], rows)

    def memory(self, rows: int, columns: int) -> KVCache:
        """Room for the keys and values of `columns` columns."""
        weight, half = self.vocab_embed.embedding, self.rotary_emb.inv_freq.shape[0]
        shape = (len(self.blocks), rows, weight.shape[1] // (2 * half), columns, 2 * half)
        return KVCache(shape, dtype=weight.dtype, device=weight.device)

    def condition(self, t: Tensor | None, inputs: Inputs) -> Tensor:
        """Float[B, 1 or N, condition]: the noise level's vector, plus the class's where `inputs` has a label.

        Raises:
            ConfigError: a label for a network without classes, or no time.
        """
        c = super().condition(t, inputs)
        if inputs.label is None:
            return c
        if self.cond_map is None:
            raise ConfigError("this network knows no classes: build it with classes > 0 or give no label")
        return c + F.silu(self.cond_map(inputs.label))[:, None]


class DiTClassifier(Body):
    """Inputs -> Float[B, classes]: a DiT whose columns are averaged; tells guidance what noisy text is about."""

    def __init__(self, shape: DiTConfig, vocab: int, level: Level | None = None) -> None:
        """`shape.classes` must be positive; `shape.layers` is usually small."""
        shape.check()
        super().__init__(shape, vocab, level)
        self.output_layer = nn.Linear(shape.width, shape.classes)

    def forward(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        """Logits of the classes."""
        return self.output_layer(self.states(inputs, self.condition(t, inputs))[-1].mean(1))


def plain(tokens: Tensor) -> Inputs:
    """Inputs where every column of Long[B, N], or of weights Float[B, N, V], sees every other."""
    columns = tokens.shape[1]
    return Inputs(tokens, torch.arange(columns, device=tokens.device), Attend(columns, columns))


class _Block(nn.Module):
    def __init__(self, shape: DiTConfig) -> None:
        super().__init__()
        width, inner = shape.width, shape.expansion * shape.width
        self.heads, self.dropout = shape.heads, shape.dropout
        self.norm1, self.norm2 = _Norm(width), _Norm(width)
        self.attn_qkv, self.attn_out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, width))
        self.adaLN_modulation = _zeroed(nn.Linear(shape.condition, 6 * width))

    def forward(
        self, h: Tensor, c: Tensor, turn: Tensor, mix: Mixer, depth: int, memory: Memory | None = None
    ) -> Tensor:
        batch, columns, _ = h.shape
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.adaLN_modulation(c).chunk(6, -1)
        qkv = self.attn_qkv(self.norm1(h) * (1 + scale) + shift).view(batch, columns, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = rotate(q, turn), rotate(k, turn)
        if memory is not None:
            k, v = appended(memory.layer(depth, k.shape[2]), k, v)
        h = h + gate * self._drop(self.attn_out(mix(q, k, v).transpose(1, 2).flatten(2)))
        return h + gate_mlp * self._drop(self.mlp(self.norm2(h) * (1 + scale_mlp) + shift_mlp))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class _Final(nn.Module):
    def __init__(self, width: int, vocab: int, condition: int) -> None:
        super().__init__()
        self.norm_final = _Norm(width)
        self.linear = _zeroed(nn.Linear(width, vocab))
        self.adaLN_modulation = _zeroed(nn.Linear(condition, 2 * width))

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, -1)
        return self.norm_final(h) * (1 + scale) + shift


class _Norm(nn.Module):
    """Layer norm in float32 with a weight and no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), self.weight.shape, self.weight.float()).to(x.dtype)


class _Embedding(nn.Module):
    def __init__(self, vocab: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(vocab, width).uniform_(-(width**-0.5), width**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.embedding if x.is_floating_point() else F.embedding(x, self.embedding)


class _Told(nn.Module):
    """Float[..., condition] from a number: 256 sinusoids through a small network."""

    def __init__(self, condition: int, waves: int = 256) -> None:
        super().__init__()
        self.waves = waves
        self.mlp = nn.Sequential(nn.Linear(waves, condition), nn.SiLU(), nn.Linear(condition, condition))

    def forward(self, told: Tensor) -> Tensor:
        return self.mlp(sinusoids(told, self.waves).to(next(self.parameters()).dtype))


class _Classes(nn.Module):
    def __init__(self, count: int, condition: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(count, condition)

    def forward(self, label: Tensor) -> Tensor:
        return self.embedding_table(label)


class _Rotary(nn.Module):
    """Angles per position; a buffer because published checkpoints carry it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inv_freq: Tensor
        self.register_buffer("inv_freq", rates(width))


def _zeroed(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
