"""Small float32 networks on a CPU, read through kernels of their own where these can be built.

Matrix libraries lay a matrix out anew for every product, which at a block's few rows costs as much as the product, and
a pass of a small network is hundreds of calls.  Here the matrices are laid out once, and a pass is two calls.

A network is laid out when a text is begun, and again when its weights have changed since.
"""

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mezzotint.denoisers.layers.kv_cache import KVCache
from mezzotint.denoisers.native.build import NativeUnavailable
from mezzotint.denoisers.native.dense import DenseLayer, DenseShape, DenseStack, DenseStore, Matrix
from mezzotint.layouts import Inputs

MOST = 1 << 28
"""Numbers of a network that is laid out: its matrices are then in memory twice, and larger ones gain nothing."""


@dataclass(frozen=True)
class Parts:
    """A network taken apart."""

    shape: DenseShape
    layers: list[DenseLayer]
    norm: Tensor
    head: Tensor
    angles: Callable[[Tensor], Tensor]
    """Long[n] positions -> Float[n, turned / 2]."""


@dataclass(frozen=True)
class NativeSmallNetwork:
    """The kernels of one network; equal to it but for rounding."""

    stack: DenseStack
    head: Matrix
    embedded: Callable[[Inputs, Tensor | None], Tensor]
    """What the first layer reads, Float[B, N, width], the caller's to overwrite."""

    def __call__(self, inputs: Inputs, t: Tensor | None, rows: Tensor | None) -> Tensor | None:
        """Logits of the columns Long[B, W] `rows`; None asks only for keys and values."""
        x, memory = self.embedded(inputs, t), inputs.memory
        store = None
        if memory is not None:
            assert isinstance(memory, KVCache)
            memory.layer(0, x.shape[1])
            store = DenseStore(memory.keys, memory.values, memory.length)
        none = inputs.positions.new_empty(x.shape[0], 0)
        h = self.stack.run(x, inputs.positions, inputs.attend.dense(x.device), store, none if rows is None else rows)
        if memory is not None:
            memory.length += x.shape[1]
        return None if rows is None else self.head.apply(h)


_Made = tuple[DenseStack, Matrix] | None
_made: WeakKeyDictionary[nn.Module, tuple[object, _Made]] = WeakKeyDictionary()


def swift(
    network: nn.Module,
    made_of: tuple[type[nn.Module], ...],
    take_apart: Callable[[], Parts],
    embedded: Callable[[Inputs, Tensor | None], Tensor],
) -> NativeSmallNetwork | None:
    """Kernels for a network as it is now; None where there are none for it, or none here.

    Args:
        network: if it is made of anything but these modules (an adapted matrix, experts), there are none.
        made_of: the modules that the parts stand for.
        take_apart: the network's parts.
        embedded: what its first layer reads, Float[B, N, width], not its inputs themselves.
    """
    weights = list(network.parameters())
    if not all(w.device.type == "cpu" and w.dtype == torch.float32 for w in weights):
        return None
    if torch.is_grad_enabled() and any(w.requires_grad for w in weights):
        return None
    if sum(w.numel() for w in weights) > MOST or not all(_plain(module, made_of) for module in network.modules()):
        return None
    state = _state(weights)
    known = _made.get(network)
    if known is None or known[0] != state:
        known = state, _laid_out(take_apart())
        _made[network] = known
    return None if known[1] is None else NativeSmallNetwork(*known[1], embedded)


def _laid_out(parts: Parts) -> _Made:
    if not parts.shape.fits:
        return None
    try:
        return DenseStack(parts.shape, parts.layers, parts.norm, parts.angles), Matrix(parts.head)
    except NativeUnavailable:
        return None


def _plain(module: nn.Module, made_of: tuple[type[nn.Module], ...]) -> bool:
    """Whether it is one of these modules itself, no subclass, and nobody listens in."""
    return type(module) in made_of and not (module._forward_hooks or module._forward_pre_hooks)


def _state(weights: list[nn.Parameter]) -> tuple[tuple[float, ...], ...]:
    """Equal as long as no weight changes: counts of changes, which fused optimisers do not keep, and sums."""
    counts = [0 if w.is_inference() else w._version for w in weights]
    sums = torch.stack([w.detach().sum() for w in weights])
    return tuple(w.data_ptr() for w in weights), tuple(counts), tuple(sums.tolist())
