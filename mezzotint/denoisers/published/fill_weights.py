"""Stored tensors -> the parameters of a network that was built without memory, each stored number used exactly once.

A network's parameters are described by pieces of stored tensors: one whole tensor, some rows of a fused one, or the
matrices of many experts one after the other.  Parameters are filled one at a time, so that the peak is the weights and
the largest parameter.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mezzotint.checkpoints import Checkpoint
from mezzotint.checkpoints.folder import SafeTensor
from mezzotint.denoisers.layers.moe import ExpertStack
from mezzotint.errors import CheckpointError


@dataclass(frozen=True)
class Piece:
    """Rows of a stored tensor that fill a parameter, or the next part of one."""

    key: str
    shape: tuple[int, ...]
    """Of the whole stored tensor."""
    rows: tuple[int, int] | None = None
    """First and last row + 1; None is all of them."""
    flipped: bool = False
    """The matrix is stored as [in, out]; rows are counted after turning it."""


Keys = Callable[[str, tuple[int, ...]], Sequence[Piece]]
"""(our parameter, its shape) -> the stored pieces that fill it, in order."""


@dataclass(frozen=True)
class TensorForm:
    """What parameters become in memory."""

    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    int8: bool = False
    """Matrices of layers as 8-bit codes with one scale per output, made numbers again where they are used."""


def built(make: Callable[[], nn.Module]) -> nn.Module:
    """A network without memory for its parameters: everything is on the meta device.

    Raises:
        CheckpointError: sizes that contradict each other, or that no tensor can have.
    """
    try:
        with torch.device("meta"), _Undrawn():
            return make()
    except (RuntimeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"config.json describes no network that can be built: {error}") from None


def fill(
    network: nn.Module, checkpoint: Checkpoint, keys: Keys, form: TensorForm = TensorForm(), unread: Iterable[str] = ()
) -> None:
    """Fill every parameter of a network from `built`.

    Args:
        network: on the meta device; matrices of layers become 8-bit modules where `form` says so.
        checkpoint: where the numbers are.
        keys: which of them go where.
        form: type and place of the parameters; those named `bias` of experts keep 32 bits.
        unread: stored tensors that this network does not need.

    Raises:
        CheckpointError: a tensor is missing, left over or of another shape; file and key are named.
    """
    plan = check(network, checkpoint, keys, unread)
    for ours, shape in [(name, tuple(x.shape)) for name, x in network.named_parameters()]:
        exact = ours.endswith("experts.bias")
        values = torch.empty(shape, dtype=torch.float32 if exact else form.dtype)
        flat, at = values.view(-1), 0
        for piece in plan[ours]:
            part = _read(checkpoint, piece).reshape(-1)
            flat[at : at + len(part)] = part
            at += len(part)
        if at != len(flat):
            raise CheckpointError(f"{checkpoint.path}: {plan[ours][0].key} has {at} numbers for {len(flat)} of {ours}")
        _put(network, ours, values.to(form.device), form)


def check(
    network: nn.Module, checkpoint: Checkpoint, keys: Keys, unread: Iterable[str] = ()
) -> dict[str, Sequence[Piece]]:
    """The pieces of every parameter; every stored tensor is there, has its shape, and is used once and completely.

    Raises:
        CheckpointError: one is missing, left over, of another shape or of a type that cannot be read; file and key are
            named.
    """
    plan = {ours: keys(ours, tuple(x.shape)) for ours, x in network.named_parameters()}
    _check(checkpoint, [piece for pieces in plan.values() for piece in pieces], set(unread))
    return plan


def _check(checkpoint: Checkpoint, pieces: list[Piece], unread: set[str]) -> None:
    left = {name: checkpoint.shape(name) for name in checkpoint.names() if name not in unread}
    used: dict[str, list[tuple[int, int]]] = {}
    counts: dict[str, int] = {}
    for piece in pieces:
        if piece.key not in left:
            raise CheckpointError(f"{checkpoint.path} lacks the tensor {piece.key}: the checkpoint is incomplete")
        if left[piece.key] != piece.shape:
            raise CheckpointError(
                f"{checkpoint.tensors[piece.key].file}: {piece.key} has shape {list(left[piece.key])}, "
                f"the configuration asks {list(piece.shape)}"
            )
        count = piece.shape[-1] if piece.flipped else piece.shape[0] if piece.shape else 1
        used.setdefault(piece.key, []).append(piece.rows or (0, count))
        counts[piece.key] = count
    for key, spans in used.items():
        tensor = checkpoint.tensors[key]
        if isinstance(tensor, SafeTensor):
            tensor.kind()
        taken = sum(stop - start for start, stop in spans)
        if taken != counts[key]:
            raise CheckpointError(
                f"{checkpoint.tensors[key].file}: {taken} rows of {key} are asked for, and it has {counts[key]}"
            )
    extra = sorted(set(left) - set(used))
    if extra:
        raise CheckpointError(
            f"{checkpoint.tensors[extra[0]].file} holds {len(extra)} tensors this network has no place for, "
            f"such as {extra[0]}: it is not a plain {checkpoint.config.get('model_type')} model"
        )


def _read(checkpoint: Checkpoint, piece: Piece) -> Tensor:
    tensor = checkpoint.tensors[piece.key]
    rows = piece.rows
    if piece.flipped or not isinstance(tensor, SafeTensor) or not piece.shape:
        values = _tensor(tensor.rows(0, tensor.shape[0]), tensor.dtype) if isinstance(tensor, SafeTensor) else None
        values = torch.from_numpy(tensor.read()) if values is None else values
        values = values.t() if piece.flipped else values
        return values if rows is None else values[rows[0] : rows[1]]
    return _tensor(tensor.rows(*(rows or (0, tensor.shape[0]))), tensor.dtype)


def _tensor(values: np.ndarray, dtype: str) -> Tensor:
    return torch.from_numpy(values).view(torch.bfloat16) if dtype == "bf16" else torch.from_numpy(values)


def _put(network: nn.Module, name: str, values: Tensor, form: TensorForm) -> None:
    """Give a parameter its values; a matrix becomes a module of codes where that is asked for."""
    place, _, leaf = name.rpartition(".")
    owner = network.get_submodule(place)
    if becomes_codes(network, name, form):
        kind = CodedLinear if isinstance(owner, nn.Linear) else CodedStack
        above, _, last = place.rpartition(".")
        setattr(network.get_submodule(above), last, kind(values, getattr(owner, "bias", None)))
        return
    setattr(owner, leaf, nn.Parameter(values, requires_grad=False))


def becomes_codes(network: nn.Module, name: str, form: TensorForm) -> bool:
    """Whether a parameter is kept in 8 bits: matrices of layers, but for those that route."""
    place, _, leaf = name.rpartition(".")
    matrix = leaf == "weight" and isinstance(network.get_submodule(place), (nn.Linear, ExpertStack))
    return form.int8 and matrix and place.startswith("layers") and not place.endswith("router")


def coded(values: Tensor) -> tuple[Tensor, Tensor]:
    """Int8[..., in] codes and Float[...] scales of Float[..., in], symmetric, one scale per row."""
    wide = values.float()
    scale = wide.abs().amax(-1).clamp_min(torch.finfo(torch.float32).tiny) / 127
    return (wide / scale[..., None]).round().to(torch.int8), scale.to(values.dtype)


class CodedLinear(nn.Module):
    """A linear layer whose matrix is stored in 8 bits."""

    codes: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__()
        codes, scale = coded(weight)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """Float[..., in] -> Float[..., out]."""
        y = F.linear(x, self.codes.to(x.dtype)) * self.scale.to(x.dtype)
        return y if self.bias is None else y + self.bias


class CodedStack(nn.Module):
    """A `ExpertStack` whose matrices are stored in 8 bits."""

    codes: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, bias: None) -> None:
        super().__init__()
        codes, scale = coded(weight)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor, one: int) -> Tensor:
        """Float[n, in] -> Float[n, out] through matrix `one`."""
        return F.linear(x, self.codes[one].to(x.dtype)) * self.scale[one].to(x.dtype)


class _Undrawn(TorchFunctionMode):
    """Skips random initialisation: every parameter is about to be replaced, and drawing on the meta device is slow."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in ("kaiming_uniform_", "uniform_", "normal_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
