"""Checkpoint -> decoder: every stored tensor used exactly once, every parameter filled, shapes equal."""

import torch

from mezzotint.checkpoints import Checkpoint
from mezzotint.checkpoints.llama_variants import refuse_variants
from mezzotint.denoisers.networks.llama import Decoder, DecoderConfig
from mezzotint.denoisers.published import tensor_names
from mezzotint.denoisers.published.config_schemas import of_decoder
from mezzotint.denoisers.published.fill_weights import TensorForm, built, fill
from mezzotint.denoisers.published.identify import left_unread
from mezzotint.errors import CheckpointError


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
    architecture = of_decoder(decoder_config(checkpoint), tensor_names.llama(checkpoint.names()))
    decoder = built(architecture.make)
    assert isinstance(decoder, Decoder)
    fill(decoder, checkpoint, architecture.keys, TensorForm(dtype, device), left_unread(checkpoint, architecture))
    if architecture.tied:
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
