"""Checkpoint -> decoder: every stored tensor used exactly once, every parameter filled, shapes equal."""

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mezzotint.checkpoints import Checkpoint
from mezzotint.denoisers.decoder import Decoder, DecoderConfig
from mezzotint.denoisers.variants import refuse_variants
from mezzotint.errors import CheckpointError

WHOLE = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
PER_LAYER = {
    "ln1": "input_layernorm",
    "ln2": "post_attention_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "qn": "self_attn.q_norm",
    "kn": "self_attn.k_norm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
BUFFERS = ("rotary_emb.inv_freq",)
"""Endings of tensors some tools store although they are computed."""


def load_decoder(checkpoint: Checkpoint, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Decoder:
    """Build the network of a checkpoint and fill it, one tensor at a time.

    Args:
        checkpoint: an opened checkpoint of a Llama-shaped model.
        dtype: type of the parameters.
        device: where they go.

    Returns:
        The network in eval mode, without gradients.

    Raises:
        CheckpointError: another kind of network, or tensors that are missing, left over or of the wrong shape.
    """
    config = decoder_config(checkpoint)
    with torch.device("meta"), _Unfilled():
        decoder = Decoder(config)
    left = {name for name in checkpoint.names() if not name.endswith(BUFFERS)}
    if config.tied:
        _drop_copied_head(checkpoint, left)
    for ours, parameter in list(decoder.named_parameters()):
        theirs = stored_name(ours)
        if theirs not in left:
            raise CheckpointError(f"{checkpoint.path} lacks the tensor {theirs}: the checkpoint is incomplete")
        shape = checkpoint.shape(theirs)
        if shape != tuple(parameter.shape):
            raise CheckpointError(
                f"{checkpoint.path}: {theirs} has shape {list(shape)}, the configuration asks {list(parameter.shape)}"
            )
        left.remove(theirs)
        values = torch.from_numpy(checkpoint.tensor(theirs)).to(device, dtype)
        _put(decoder, ours, nn.Parameter(values, requires_grad=False))
    if left:
        raise CheckpointError(
            f"{checkpoint.path} holds {len(left)} tensors this network has no place for, such as {min(left)}: "
            f"it is not a plain {checkpoint.config['model_type']} model"
        )
    if config.tied:
        decoder.head.weight = decoder.embed.weight
    return decoder.eval()


def decoder_config(checkpoint: Checkpoint) -> DecoderConfig:
    """The network's shape; biases and head norms are told by the tensors, not by the configuration.

    Raises:
        CheckpointError: another kind of network, or settings `Decoder` does not compute.
    """
    refuse_variants(checkpoint)
    config, names = checkpoint.config, set(checkpoint.names())
    try:
        return DecoderConfig(
            vocab=config["vocab_size"],
            width=config["hidden_size"],
            inner=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            head_dim=config["head_dim"],
            max_positions=config["max_position_embeddings"],
            rope_theta=float(config["rope_theta"]),
            norm_eps=config["rms_norm_eps"],
            tied=config["tie_word_embeddings"],
            qkv_bias="model.layers.0.self_attn.q_proj.bias" in names,
            qk_norm="model.layers.0.self_attn.q_norm.weight" in names,
        )
    except KeyError as error:
        raise CheckpointError(f"the configuration of {checkpoint.path} lacks {error.args[0]}") from None


def stored_name(ours: str) -> str:
    """The checkpoint's name of our parameter: `layers.3.q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    parts = ours.split(".")
    if parts[0] == "layers":
        return f"model.layers.{parts[1]}.{PER_LAYER[parts[2]]}.{parts[3]}"
    return f"{WHOLE[parts[0]]}.{parts[1]}"


def _drop_copied_head(checkpoint: Checkpoint, left: set[str]) -> None:
    """Some tools store a tied head a second time; an equal copy is the same tensor, another one is a contradiction."""
    head, embed = stored_name("head.weight"), stored_name("embed.weight")
    if head in left and embed in left:
        if not (checkpoint.tensor(head) == checkpoint.tensor(embed)).all():
            raise CheckpointError(
                f"{checkpoint.path} says the head is the embedding (tie_word_embeddings) but stores another {head}"
            )
        left.remove(head)


class _Unfilled(TorchFunctionMode):
    """Skips random initialisation: every parameter is about to be replaced, and drawing on the meta device is slow."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in ("kaiming_uniform_", "uniform_", "normal_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _put(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(owner), leaf, parameter)
