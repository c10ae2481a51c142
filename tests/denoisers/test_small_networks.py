"""The float32 kernels are the network but for rounding, and a row's answers do not depend on the other rows."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mezzotint.decode.reader import halves
from mezzotint.denoisers.native import dense
from mezzotint.denoisers.native.dense import DenseStore, Matrix, best
from mezzotint.denoisers.native.small_networks import NativeSmallNetwork
from mezzotint.denoisers.networks.llama import Decoder, DecoderConfig
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.denoisers.published.attention_patterns import FullPattern
from mezzotint.denoisers.published.open import AlignedNetwork
from mezzotint.errors import CapacityError
from mezzotint.layouts import Attend, Inputs
from mezzotint.masks import block_causal

PLAIN = {"vocab": 83, "width": 40, "inner": 72, "layers": 3, "heads": 4, "kv_heads": 4, "head_dim": 16}
KINDS = {
    "llama": {},
    "grouped heads": {"kv_heads": 2},
    "qwen2": {"qkv_bias": True, "kv_heads": 1},
    "qwen3": {"qk_norm": True, "kv_heads": 2, "tied": False},
    "half a head turned": {"turned": 8},
}
ROWS, COLUMNS, WANTED = 3, 37, 5


class Doubled(torch.nn.Linear):
    """What stands in a matrix's place when it is adapted."""

    def forward(self, x):
        return 2 * super().forward(x)


def decoder(**more):
    torch.manual_seed(0)
    made = Decoder(DecoderConfig(**PLAIN | {"max_positions": 200} | more)).requires_grad_(False)
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return AlignedNetwork(made, FullPattern(), 0)


def transformer(**more):
    torch.manual_seed(0)
    made = TransformerConfig(width=48, layers=2, heads=3, **more).build(83).requires_grad_(False)
    torch.nn.init.normal_(made.head.weight, std=0.3)
    return made


def inputs_of(mask=None, valid=None, memory=None, rows=ROWS, start=0, count=COLUMNS):
    x = torch.randint(0, 83, (rows, COLUMNS), generator=torch.Generator().manual_seed(1))[:, start : start + count]
    positions = torch.arange(start, start + count).expand(rows, -1)
    return Inputs(x, positions, Attend(count, start + count, mask, valid), memory=memory)


def wanted(rows=ROWS, count=COLUMNS):
    return torch.stack(
        [torch.randperm(count, generator=torch.Generator().manual_seed(r))[:WANTED] for r in range(rows)]
    )


def fast(network):
    answer = network.ready()
    assert isinstance(answer, NativeSmallNetwork)
    return answer


def close(got, want):
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("more", KINDS.values(), ids=KINDS)
def test_every_kind_of_decoder_is_the_network_itself(more):
    network = decoder(**more)
    close(fast(network)(inputs_of(), None, wanted()), halves(network, inputs_of(), None, wanted()))


@pytest.mark.parametrize("timed", [False, True])
def test_a_transformer_from_scratch_is_the_network_itself(timed):
    network, t = transformer(timed=timed), torch.full((ROWS, 1), 0.3) if timed else None
    close(fast(network)(inputs_of(), t, wanted()), halves(network, inputs_of(), t, wanted()))


def test_masks_and_padding_hide_what_they_hide_in_the_network():
    network, valid = transformer(), torch.arange(COLUMNS) >= torch.tensor([[0], [4], [11]])
    for inputs in (inputs_of(block_causal(8)), inputs_of(valid=valid), inputs_of(block_causal(8), valid)):
        some = wanted().clamp_min(11)
        close(fast(network)(inputs, None, some), halves(network, inputs, None, some))


@pytest.mark.parametrize("network", [transformer(), decoder(kv_heads=2, qk_norm=True)], ids=["transformer", "decoder"])
def test_kept_keys_and_values_are_those_of_the_network(network):
    ours, theirs, some = network.memory(ROWS, 50), network.memory(ROWS, 50), wanted(count=13)
    assert fast(network)(inputs_of(memory=ours, count=24), None, None) is None
    assert halves(network, inputs_of(memory=theirs, count=24), None, None) is None
    assert ours.length == theirs.length == 24
    close(ours.keys, theirs.keys)
    got = fast(network)(inputs_of(memory=ours, start=24, count=13), None, some)
    close(got, halves(network, inputs_of(memory=theirs, start=24, count=13), None, some))
    close(ours.values, theirs.values)


def test_a_row_alone_gives_the_very_bits_it_gives_in_a_batch():
    network = decoder(kv_heads=2)
    together, alone = (fast(network)(inputs_of(rows=n), None, wanted(rows=n)) for n in (ROWS, 1))
    assert torch.equal(together[:1], alone)


def test_two_threads_give_the_very_bits_of_one():
    torch.manual_seed(0)
    network = TransformerConfig(width=128, layers=3, heads=4).build(701).requires_grad_(False)
    torch.nn.init.normal_(network.head.weight, std=0.3)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            inputs, some = inputs_of(block_causal(8), rows=8), wanted(rows=8)
            found.append(fast(network)(inputs, None, some))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_products_of_any_number_of_rows_and_outputs_are_products():
    torch.manual_seed(2)
    for rows, outputs, inputs in ((1, 8, 8), (3, 24, 304), (193, 51, 520), (6, 1, 16), (5, 33, 24)):
        x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
        close(Matrix(weight).apply(x), x @ weight.T)


def test_the_likeliest_token_and_its_probability_are_found_in_one_pass():
    logits = torch.randn(3, 2, 1003, generator=torch.Generator().manual_seed(4)) * 4
    logits[0, 0, [17, 700]] = 30.0
    logits[1, 1, :-1] = -torch.inf
    tokens, chance = best(logits)
    assert torch.equal(tokens, logits.argmax(-1))
    assert tokens[0, 0] == 17
    torch.testing.assert_close(chance, logits.double().softmax(-1).amax(-1).float(), rtol=1e-6, atol=0)


def test_what_does_not_fit_the_kernels_is_refused_before_they_run():
    stack = fast(decoder(kv_heads=2)).stack
    x, at, mask = torch.randn(2, 5, 40), torch.arange(5), torch.ones(1, 1, 5, 5, dtype=torch.bool)
    room = torch.zeros(3, 2, 2, 9, 16)

    def refused(message, x=x, at=at, mask=None, store=None, wanted=None):
        with pytest.raises(CapacityError, match=message):
            stack.run(x, at, mask, store, wanted)

    refused("contiguous float32 of 40", x=x.double())
    refused("contiguous float32 of 40", x=torch.randn(5, 2, 40).transpose(0, 1))
    refused("cannot place 2 rows of 5 columns", at=at[:4])
    refused("cannot place 2 rows of 5 columns", at=at.int())
    refused("positions count from 0", at=at - 1)
    refused("columns -1 to 0 of 5", wanted=torch.tensor([[0], [-1]]))
    refused("columns 0 to 5 of 5", wanted=torch.tensor([[0], [5]]))
    refused("name columns of each", wanted=torch.zeros(3, 1, dtype=torch.long))
    refused("mask of shape", mask=mask[0])
    refused("mask of shape", mask=mask.expand(-1, 4, -1, -1))
    refused("mask of shape", mask=mask.expand(3, -1, -1, -1))
    refused("mask of shape", mask=mask.int())
    refused("mask of shape", mask=mask[..., :4])
    refused("the store is too small", store=DenseStore(room, room.clone(), 5))
    refused("cannot keep columns in torch.float64", store=DenseStore(room, room.double(), 0))
    refused(r"shape \[3, 2, 2, 9, 8\]", store=DenseStore(room, room[..., :8], 0))
    refused(r"shape \[2, 2, 2, 9, 16\]", store=DenseStore(room[:2], room[:2], 0))


def test_threads_that_begin_at_once_share_their_pool():
    dense._pools.clear()
    with ThreadPoolExecutor(8) as threads:
        pools = list(threads.map(lambda _: dense.pool(1).value, range(64)))
    assert len(set(pools)) == 1


def test_matrices_that_are_gone_leave_their_memory_and_one_that_was_never_made_goes_quietly():
    def pages():
        return int(Path("/proc/self/statm").read_text().split()[1])

    weight = torch.randn(1024, 1024)
    Matrix(weight)
    before = pages()
    for _ in range(40):
        Matrix(weight)
    assert pages() - before < 10 * 1024  # of 4 kB; one matrix has 1024 pages
    with pytest.raises(CapacityError, match="a multiple of 8"):
        Matrix(torch.randn(8, 7))


def test_changed_weights_are_seen_when_the_next_text_begins():
    network = transformer()
    fast(network)
    network.blocks[0].down.weight.data.mul_(-2)  # not counted as a change, as those of fused optimisers are not
    close(fast(network)(inputs_of(), None, wanted()), halves(network, inputs_of(), None, wanted()))


def test_adapted_hooked_and_learning_networks_are_read_as_they_are():
    adapted, hooked, learning = decoder(), decoder(), transformer().requires_grad_(True)
    adapted.decoder.layers[0].q = Doubled(40, 64, bias=False)
    hooked.decoder.layers[1].register_forward_hook(lambda module, given, got: 2 * got)
    for network in (adapted, hooked, learning, decoder(head_dim=12)):
        assert network.ready() is None
