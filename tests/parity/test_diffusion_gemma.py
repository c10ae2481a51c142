"""DiffusionGemma's network: the reader's cache, the canvas with and without self-conditioning, padding."""

import json

import pytest
import torch
from networks import close

from mezzotint.denoisers.published.open import open_published


@pytest.mark.golden("diffusion_gemma_moe")
@pytest.mark.golden("diffusion_gemma_one_expert")
@torch.no_grad()
def test_what_the_reader_keeps(golden):
    network, tokens = open_published(golden.folder).network, golden["in.input_ids"]
    cache = network.memory(*tokens.shape)
    close(golden, "forward.encoder_last_hidden_state", network.read(tokens, cache))
    layers = golden.names(r"forward\.encoder_cache\.\d+\.keys")
    assert len(layers) == len(network.layers)
    for depth, sight in enumerate(network.config.layers):
        kept = 0 if sight.window is None else 1 - sight.window
        keys, values, length = cache.layer(depth)
        close(golden, f"forward.encoder_cache.{depth}.keys", keys[:, :, :length][:, :, kept:])
        close(golden, f"forward.encoder_cache.{depth}.values", values[:, :, :length][:, :, kept:])


@pytest.mark.golden("diffusion_gemma_moe")
@pytest.mark.golden("diffusion_gemma_one_expert")
@torch.no_grad()
def test_canvas_logits(golden):
    network, canvas = open_published(golden.folder).network, golden["in.canvas_ids"]
    cache = network.memory(*golden["in.input_ids"].shape)
    network.read(golden["in.input_ids"], cache)
    taps = []
    last = network.hidden(canvas, cache, taps=taps)
    assert len(taps) == len(golden.names(r"forward\.decoder_hidden\.\d+")) - 1
    for depth, tap in enumerate([*taps, last]):
        close(golden, f"forward.decoder_hidden.{depth}", tap)
    close(golden, "forward.decoder_last_hidden_state", last)
    close(golden, "forward.logits", network.head(last))
    before = golden["in.self_conditioning_logits"]
    close(golden, "forward_sc.logits", network(canvas, cache, before))
    close(golden, "forward_sc_mask.logits", network(canvas, cache, before, golden["in.self_conditioning_mask"]))


@pytest.mark.golden("diffusion_gemma_moe")
@pytest.mark.golden("diffusion_gemma_one_expert")
@torch.no_grad()
def test_left_padding(golden):
    network, valid = open_published(golden.folder).network, golden["in.padded_attention_mask"]
    cache = network.memory(*valid.shape)
    network.read(golden["in.padded_input_ids"], cache, valid)
    close(golden, "forward_padded.logits", network(golden["in.canvas_ids"], cache, valid=valid))


@pytest.mark.golden("diffusion_gemma_moe")
@torch.no_grad()
def test_text_read_in_pieces_is_text_read_at_once(golden):
    network, tokens = open_published(golden.folder).network, golden["in.input_ids"]
    whole, parts = network.memory(*tokens.shape), network.memory(*tokens.shape)
    want = network.read(tokens, whole)
    got = torch.cat([network.read(piece, parts) for piece in tokens.split(3, 1)], 1)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.golden("diffusion_gemma_moe")
def test_what_the_checkpoint_says(golden):
    model = open_published(golden.folder)
    assert model.block == golden.meta["canvas_length"]
    assert model.mask_id is None
    assert model.stop_ids == (json.loads((golden.folder / "config.json").read_text())["text_config"]["eos_token_id"],)
    assert not model.shift


@pytest.mark.golden("diffusion_gemma_moe")
@torch.no_grad()
def test_29_logits_stay_within_their_cap(golden):
    network = open_published(golden.folder).network
    wild = network.head(1e3 * torch.randn(4, network.config.width, generator=torch.Generator().manual_seed(0)))
    assert wild.abs().max() <= network.config.cap
    assert wild.abs().max() > 0.99 * network.config.cap
