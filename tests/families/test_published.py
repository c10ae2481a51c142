"""Losses of published families against their formulas by brute force, on networks with recorded answers."""

import itertools
import math

import pytest
import torch

from mezzotint.batch import Batch
from mezzotint.denoisers.networks.llama import Decoder, DecoderConfig
from mezzotint.denoisers.published.add_mask import TrainableDecoder
from mezzotint.denoisers.published.attention_patterns import BlockCausalPattern, CausalPattern, FullPattern, dense
from mezzotint.denoisers.published.open import AlignedNetwork, TrainableNetwork
from mezzotint.families.diffullama import DiffuLLaMA
from mezzotint.families.dream import Cart, Dream
from mezzotint.families.efficient_dlm import EfficientDLM
from mezzotint.families.fast_dllm import FastDLLM
from mezzotint.families.idlm import IDLM
from mezzotint.families.llada import LLaDA
from mezzotint.families.llada2 import LLaDA2
from mezzotint.families.sdar import SDAR
from mezzotint.families.wedlm import WeDLM
from mezzotint.rng import Rng

VOCAB, MASK, ROWS, LENGTH = 7, 6, 4, 8
TOKENS = torch.randint(0, MASK, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
RAW = torch.randn(ROWS, LENGTH, VOCAB, generator=torch.Generator().manual_seed(1))


class Seen(torch.nn.Module):
    """Answers with fixed logits and keeps what it read."""

    def __init__(self):
        super().__init__()
        self.inputs = []

    def forward(self, inputs, t):
        self.inputs.append((inputs, t))
        halves = inputs.x.shape[1] // LENGTH
        return RAW.repeat(inputs.x.shape[0] // ROWS, halves, 1)


def trained(config, target=None, step=0):
    """The loss, the masked columns, the share of each, and what the network read."""
    family, seen = config.build(VOCAB, MASK), Seen()
    target = torch.ones(ROWS, LENGTH, dtype=torch.bool) if target is None else target
    loss = family.objective(seen, Batch(TOKENS, target), Rng(3, step))
    (inputs, t), *_ = seen.inputs
    masked = inputs.x[:, :LENGTH] == MASK
    rows = masked.shape[0] // ROWS
    nats = -RAW.log_softmax(-1).gather(-1, TOKENS[..., None])[..., 0].repeat(rows, 1)
    return loss, masked, t[:, :LENGTH], nats, inputs


def test_llada_divides_by_the_share_and_by_all_columns():
    loss, masked, t, nats, _ = trained(LLaDA())
    assert t.min() >= 1e-3
    torch.testing.assert_close(loss.total, (nats / t * masked).sum() / (ROWS * LENGTH))


def test_llada_fine_tuning_keeps_prompts_and_weighs_texts_alike():
    target = torch.arange(LENGTH) >= torch.tensor([[1], [3], [5], [6]])
    loss, masked, t, nats, _ = trained(LLaDA(answers=True), target)
    assert not masked[~target].any()
    torch.testing.assert_close(loss.total, ((nats / t * masked).sum(-1) / target.sum(-1)).mean())


@pytest.mark.parametrize("p", [0.1, 0.8])
def test_25_cart_weights_are_the_geometric_kernel(p):
    masked = torch.rand(3, 9, generator=torch.Generator().manual_seed(2)) < 0.5
    found = Cart(p)(torch.ones(3, 1), masked)
    for row, i in itertools.product(range(3), range(9)):
        others = [j for j in range(9) if j != i and not masked[row, j]]
        wanted = sum(0.5 * p * (1 - p) ** (abs(i - j) - 1) for j in others) if masked[row, i] else 0.0
        assert found[row, i].item() == pytest.approx(wanted, rel=1e-5)
    near = torch.tensor([[True, False, True, True, True]])
    weights = Cart(p)(torch.ones(1, 1), near)[0]
    assert weights[2] > weights[3] > weights[4]
    assert torch.equal(Cart(p)(torch.ones(1, 1), near.flip(1))[0].flip(0), weights)


def test_dream_never_masks_the_first_column_and_counts_masked_ones():
    loss, masked, t, nats, _ = trained(Dream(near=0.3))
    assert not masked[:, 0].any()
    torch.testing.assert_close(loss.total, (nats * Cart(0.3)(t, masked)).sum() / masked.sum())
    plain, masked, t, nats, _ = trained(Dream(near=None))
    torch.testing.assert_close(plain.total, (nats / t * masked).sum() / masked.sum())


def test_diffullama_goes_from_causal_to_full_attention():
    config = DiffuLLaMA(anneal=4)
    shares = []
    for step in range(5):
        loss, masked, t, nats, inputs = trained(config, step=step)
        torch.testing.assert_close(loss.total, (nats / t * masked).sum() / masked.sum())
        seen = inputs.attend.dense()
        seen = torch.ones(LENGTH, LENGTH, dtype=torch.bool) if seen is None else seen[0, 0]
        past = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
        assert seen[past].all()
        shares.append(seen[~past].float().mean().item())
    assert 0 < shares[0] < 0.6
    assert shares[3] == shares[4] == 1
    again = trained(config, step=1)[-1].attend.dense()
    assert torch.equal(again, trained(config, step=1)[-1].attend.dense())
    assert not torch.equal(again, trained(config, step=2)[-1].attend.dense())


def test_sdar_has_one_share_per_text_and_a_clean_past():
    loss, masked, t, nats, inputs = trained(SDAR(block=4))
    assert inputs.x.shape == (ROWS, 2 * LENGTH)
    assert torch.equal(inputs.x[:, LENGTH:], TOKENS)
    assert (t == t[:, :1]).all()
    torch.testing.assert_close(loss.total, (nats / t * masked).sum() / (ROWS * LENGTH))


def test_9_fast_dllm_masks_every_column_but_the_first_once_and_counts_masked_ones():
    loss, masked, t, nats, inputs = trained(FastDLLM(block=4))
    first, second = masked.chunk(2)
    assert not (first & second).any()
    assert (first | second)[:, 1:].all()
    assert not masked[:, 0].any()
    assert inputs.x.shape == (2 * ROWS, 2 * LENGTH)
    assert torch.equal(inputs.x[:ROWS, LENGTH:], TOKENS)
    assert (t[:, :4] == t[:, :1]).all()
    assert not (t[:, 4:] == t[:, :1]).all()
    torch.testing.assert_close(loss.total, (nats * masked).sum() / masked.sum())


def test_llada2_masks_every_answer_column_once_within_its_band():
    target = torch.arange(LENGTH).expand(ROWS, -1) >= 2
    config = LLaDA2(block=4, answers=True, low=0.3, high=0.8)
    loss, masked, t, nats, _ = trained(config, target)
    first, second = masked.chunk(2)
    assert not (first & second).any()
    assert torch.equal(first | second, target)
    assert ((t[:ROWS] >= 0.3) & (t[:ROWS] <= 0.8)).all()
    torch.testing.assert_close(loss.total, (nats * masked).sum() / target.sum())


def test_llada2_prices_doubt_where_the_network_is_right():
    config = LLaDA2(block=4, answers=True, certain=2.0)
    loss, masked, _, nats, _ = trained(config)
    raw = RAW.repeat(2, 1, 1)
    right = masked & (raw.argmax(-1) == TOKENS.repeat(2, 1))
    assert right.any()
    p = raw.softmax(-1)[right]
    doubt = -(p * p.log()).sum(-1).mean()
    torch.testing.assert_close(loss.total, (nats * masked).sum() / masked.sum() + 2 * doubt)


def test_efficient_dlm_masks_exact_numbers_and_counts_masked_ones():
    loss, masked, t, nats, inputs = trained(EfficientDLM(block=4))
    assert inputs.x.shape == (ROWS, 2 * LENGTH)
    shares = t.unflatten(1, (-1, 4))
    assert (shares == shares[..., :1]).all()
    assert torch.equal(masked.unflatten(1, (-1, 4)).sum(-1), (4 * shares[..., 0].double()).round().long())
    torch.testing.assert_close(loss.total, (nats / t * masked).sum() / masked.sum())


def test_wedlm_weighs_masks_to_one_and_continues_the_clean_half():
    target = torch.arange(LENGTH) >= torch.tensor([[0], [0], [3], [5]])
    loss, masked, t, nats, inputs = trained(WeDLM(block=4, following=0.5), target)
    asked = (4 * t.double()).round().long()
    assert not masked[~target].any()
    assert torch.equal(masked.unflatten(1, (-1, 4)).sum(-1)[:2], asked.unflatten(1, (-1, 4))[:2, :, 0])
    hidden = (nats / t * masked).sum() / (masked / t).sum()
    # without a shift row i of the clean half says at i what comes behind it
    following = -RAW[:, :-1].log_softmax(-1).gather(-1, TOKENS[:, 1:, None])[..., 0]
    torch.testing.assert_close(loss.total, hidden + 0.5 * following[target[:, 1:]].mean())
    assert torch.equal(inputs.x[:, LENGTH:], TOKENS)


@pytest.mark.parametrize("following", [0.2, None])
def test_idlm_masks_everything_but_the_first_and_keeps_the_causal_loss(following):
    loss, masked, _, nats, _ = trained(IDLM(block=4, following=following))
    assert masked[:, 1:].all()
    assert not masked[:, 0].any()
    # the recorded logits stand where a shifted network's stand after the shift is undone
    hidden = clean = nats[:, 1:].mean()
    torch.testing.assert_close(loss.total, hidden + (1.0 if following is None else following) * clean)
    torch.testing.assert_close(loss.metrics["masked"], loss.metrics["next"])


@pytest.mark.parametrize("config", [WeDLM(block=4), IDLM(block=4, following=None)], ids=lambda c: c.kind)
def test_joint_losses_of_single_columns_are_those_of_all_logits(config):
    family = config.build(VOCAB, MASK)
    network = TrainableDecoder(small(CausalPattern(), family.lookback))
    whole = TrainableNetwork(network.network)
    target = torch.arange(LENGTH).expand(ROWS, -1) >= 2
    losses, slopes = [], []
    for denoiser in (network, whole):
        network.zero_grad()
        loss = family.objective(denoiser, Batch(TOKENS, target), Rng(6))
        loss.total.backward()
        losses.append(loss)
        slopes.append([p.grad.clone() for p in network.parameters()])
    torch.testing.assert_close(losses[0].total, losses[1].total)
    torch.testing.assert_close(losses[0].per_token, losses[1].per_token)
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_8_wedlms_two_streams_equal_reading_decided_columns_first():
    """Logits of a block's masks are those of a causal network that reads them last, decided columns before."""
    network, block = small(CausalPattern(), 0), 4
    family, read = WeDLM(block=block).build(VOCAB, MASK), []

    def denoiser(inputs, t):
        read.extend((inputs.x, TrainableNetwork(network)(inputs, t)))
        return read[1]

    family.objective(denoiser, Batch(TOKENS, torch.ones_like(TOKENS, dtype=torch.bool)), Rng(5))
    noisy, raw = read[0][:, :LENGTH], read[1]
    ordered = 0
    for row, start in itertools.product(range(ROWS), range(0, LENGTH, block)):
        own = torch.arange(start, start + block)
        open = noisy[row, own] == MASK
        at = torch.cat([torch.arange(start), own[~open], own[open]])
        ordered += not torch.equal(at, torch.arange(start + block))
        text = torch.where(at < start, TOKENS[row, at], noisy[row, at])
        want = torch.empty(start + block, VOCAB)
        want[at] = network(text[None], at)[0]
        torch.testing.assert_close(raw[row, own], want[own], rtol=1e-4, atol=1e-5)
    assert ordered, "no block had a mask before something decided"
    torch.testing.assert_close(raw[:, LENGTH:], network(TOKENS), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_8_idlms_two_streams_equal_masks_behind_a_causal_text():
    network, block = small(CausalPattern(), 1), 4
    family, read = IDLM(block=block).build(VOCAB, MASK), []

    def denoiser(inputs, t):
        read.extend((inputs.x, network.head(network.hidden(inputs, t))))
        return read[1]

    family.objective(denoiser, Batch(TOKENS, torch.ones_like(TOKENS, dtype=torch.bool)), Rng(5))
    noisy, raw = read[0][:, :LENGTH], read[1]
    for start in range(0, LENGTH, block):
        text = torch.cat([TOKENS[:, :start], noisy[:, start : start + block]], 1)
        want = network.raw(text)[:, start:]
        torch.testing.assert_close(raw[:, start : start + block], want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(raw[:, LENGTH:], network.raw(TOKENS), rtol=1e-4, atol=1e-5)


def small(pattern, lookback):
    torch.manual_seed(0)
    shape = DecoderConfig(
        vocab=VOCAB, width=16, inner=24, layers=2, heads=2, kv_heads=1, head_dim=8, max_positions=32, tied=False
    )
    return AlignedNetwork(Decoder(shape).eval(), pattern, lookback)


@torch.no_grad()
def test_8_the_two_streams_of_training_equal_decoding_block_by_block():
    """Logits of a noisy block in one pass over [x_t, x_0] are those of that block behind its clean past."""
    network, block = small(BlockCausalPattern(4), 0), 4
    family, read = SDAR(block=block).build(VOCAB, MASK), []

    def denoiser(inputs, t):
        read.append(inputs.x)
        raw = TrainableNetwork(network)(inputs, t)
        read.append(raw)
        return raw

    family.objective(denoiser, Batch(TOKENS, torch.ones_like(TOKENS, dtype=torch.bool)), Rng(5))
    noisy, raw = read[0][:, :LENGTH], read[1]
    for start in range(0, LENGTH, block):
        text = torch.cat([TOKENS[:, :start], noisy[:, start : start + block]], 1)
        want = network(text)[:, start:]
        torch.testing.assert_close(raw[:, start : start + block], want, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_10_a_shifted_network_predicts_a_column_from_the_one_before():
    network = small(FullPattern(), 1)
    family, losses = Dream(near=None).build(VOCAB, MASK), []

    def denoiser(inputs, t):
        losses.append((inputs.x, t))
        return TrainableNetwork(network)(inputs, t)

    loss = family.objective(denoiser, Batch(TOKENS, torch.ones_like(TOKENS, dtype=torch.bool)), Rng(5))
    ((x_t, t),) = losses
    logp, masked = network.raw(x_t).log_softmax(-1), x_t == MASK
    wanted = [-logp[row, column - 1, TOKENS[row, column]] / t[row, column] for row, column in masked.nonzero().tolist()]
    assert loss.total.item() == pytest.approx(sum(float(x) for x in wanted) / len(wanted), rel=1e-4)


@torch.no_grad()
def test_7_prefilling_at_once_and_block_by_block_keeps_the_same_keys():
    network = small(BlockCausalPattern(4), 0)
    at_once, parts = network.memory(ROWS, LENGTH), network.memory(ROWS, LENGTH)
    network(TOKENS, cache=at_once)
    for piece in TOKENS.split(4, 1):
        network(piece, cache=parts)
    torch.testing.assert_close(at_once.keys, parts.keys)
    torch.testing.assert_close(at_once.values, parts.values)
    seen = dense(BlockCausalPattern(4), LENGTH, 0, TOKENS.device)
    torch.testing.assert_close(network(TOKENS), network(TOKENS, attend=seen))
    assert math.isfinite(float(at_once.keys.sum()))
