"""Networks with their stores: passes over trees and lanes equal reading the same text afresh, on every backend."""

import numpy as np
import pytest
from tiny_hybrid import BACKENDS, TAPS, checkpoint, eager, fresh, native, quantised

from mezzotint.denoisers.causal_network import chain, prefill, tree
from mezzotint.denoisers.native.binding import max_rows
from mezzotint.denoisers.native.decoder import NativeUnsupported, alternated
from mezzotint.errors import CapacityError, CheckpointError

TEXT = [int(t) for t in np.random.default_rng(5).integers(3, 104, 90)]
PARENTS = [-1, 0, 0, 1, 2, 2, 5, 3]


@pytest.fixture(params=BACKENDS)
def network(request):
    return BACKENDS[request.param](checkpoint())


def close(got, want, tolerance=2e-2):
    """Equal up to `tolerance` of the largest: eight bits of weights and, in the store, eleven of keys and values."""
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())


def off(got, want):
    """Root mean square of the difference, as a share of that of the wanted."""
    return np.sqrt(np.square(got - want).mean() / np.square(want).mean())


@pytest.mark.parametrize(
    "change", [{}, {"tie_word_embeddings": False}, {"num_key_value_heads": 4}, {"num_key_value_heads": 1}], ids=str
)
def test_both_backends_think_alike(change):
    """On eight-bit weights kernels round keys and values, to 11 bits, and activations: to 16, at the head to 8."""
    made = quantised("q8_0", **change)
    (logits, taps), (exact, wanted) = fresh(native(made), TEXT), fresh(eager(made), TEXT)
    close(taps, wanted, 4e-3)
    close(logits, said(made, taps[:, -1], bits=8), 1e-5)
    close(exact, said(made, wanted[:, -1], bits=24), 1e-5)
    assert 0 < off(logits, exact) < 8e-3


def said(made, hidden, bits):
    """Logits of residual streams Float[n, width], from activations of so many bits with a scale per 32 of them."""
    x = hidden / np.sqrt(np.square(hidden).mean(-1, keepdims=True) + made.config["rms_norm_eps"])
    blocks = (x * made.tensor("model.norm.weight")).reshape(len(x), -1, 32)
    step = np.abs(blocks).max(-1, keepdims=True) / (2 ** (bits - 1) - 1)
    head = "model.embed_tokens.weight" if made.config["tie_word_embeddings"] else "lm_head.weight"
    return (np.rint(blocks / step) * step).reshape(x.shape) @ made.tensor(head).T


def test_floats_are_rounded_to_eight_bits_and_four_bits_are_met_by_eight():
    """A random network magnifies what a trained one would not, so these bounds are loose."""
    assert off(fresh(native(checkpoint()), TEXT)[0], fresh(eager(checkpoint()), TEXT)[0]) < 0.06
    made = quantised("q4_1")
    assert off(fresh(native(made), TEXT)[0], fresh(eager(made), TEXT)[0]) < 0.12


def test_alternated_takes_turns_of_32_rows():
    a, b = np.arange(64)[:, None], 100 + np.arange(64)[:, None]
    want = [*range(32), *range(100, 132), *range(32, 64), *range(132, 164)]
    assert alternated([a, b])[:, 0].tolist() == want


def test_a_tree_row_equals_reading_its_branch(network):
    whole = {}
    depth, sees = tree(PARENTS)
    tokens = TEXT[40:48]
    network.truncate(0)
    prefill(network, TEXT[:37])
    hidden, taps = network.run(tokens, 37 + depth, sees, None, TAPS)
    logits = np.array(network.logits(hidden))
    for node in range(len(PARENTS)):
        path = [node]
        while PARENTS[path[0]] >= 0:
            path.insert(0, PARENTS[path[0]])
        whole[node] = fresh(network, TEXT[:37] + [tokens[i] for i in path])
    for node, (want, want_taps) in whole.items():
        close(logits[node], want[-1], 1e-4)
        close(taps[node], want_taps[-1], 1e-4)


def test_a_native_tree_row_has_the_very_bits_of_one_by_one_reading():
    network = native(checkpoint())
    depth, sees = tree(PARENTS)
    prefill(network, TEXT[:37])
    hidden, taps = network.run(TEXT[40:48], 37 + depth, sees, None, TAPS)
    for node in range(len(PARENTS)):
        path = [node]
        while PARENTS[path[0]] >= 0:
            path.insert(0, PARENTS[path[0]])
        network.truncate(0)
        for at, token in enumerate(TEXT[:37] + [TEXT[40 + i] for i in path]):
            one, one_taps = network.run([token], np.array([at]), chain(1), None, TAPS)
            network.commit([0])
        np.testing.assert_array_equal(hidden[node], one[0])
        np.testing.assert_array_equal(taps[node], one_taps[0])


@pytest.mark.parametrize("threads", [2, 3])
def test_native_threads_do_not_change_a_bit(threads):
    one, more = (fresh(native(checkpoint(), threads=n), TEXT) for n in (1, threads))
    np.testing.assert_array_equal(more[0], one[0])
    np.testing.assert_array_equal(more[1], one[1])


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_pieces_equal_the_whole(network, chunk):
    want = fresh(network, TEXT)
    network.truncate(0)
    hidden, taps = prefill(network, TEXT, TAPS, chunk=chunk)
    close(network.logits(hidden), want[0], 1e-4)
    close(taps, want[1], 1e-4)
    assert network.length() == len(TEXT)


def test_a_scattered_path_of_a_tree_can_be_settled(network):
    want, _ = fresh(network, [*TEXT[:37], TEXT[40], TEXT[42], TEXT[45], TEXT[46], *TEXT[50:60]])
    network.truncate(0)
    prefill(network, TEXT[:37])
    depth, sees = tree(PARENTS)
    network.run(TEXT[40:48], 37 + depth, sees)
    network.commit([0, 2, 5, 6])
    assert network.length() == 41
    hidden, _ = prefill(network, TEXT[50:60])
    close(network.logits(hidden), want[-10:], 1e-4)


def test_settled_text_can_be_taken_back_and_written_on(network):
    want, _ = fresh(network, TEXT[:20] + TEXT[60:70])
    fresh(network, TEXT)
    network.truncate(20)
    hidden, _ = prefill(network, TEXT[60:70])
    close(network.logits(hidden), want[20:], 1e-4)


def test_native_rows_may_be_settled_in_parts_and_some_taken_back_before_the_next_pass():
    network = native(checkpoint())
    want, _ = fresh(network, TEXT[:22] + TEXT[60:90])
    network.truncate(0)
    prefill(network, TEXT[:20])
    network.run([TEXT[50], *TEXT[20:22], TEXT[51]], 20 + np.array([0, 0, 1, 2]), chain_after_one())
    network.commit([0])
    network.truncate(20)
    network.commit([1])
    network.commit([2, 3])
    network.truncate(22)
    hidden, _ = prefill(network, TEXT[60:90])
    close(network.logits(hidden), want[22:], 1e-4)


def test_a_row_settled_in_place_of_one_taken_back_is_the_one_that_stays():
    network = native(checkpoint())
    want, _ = fresh(network, TEXT[:21] + TEXT[60:70])
    network.truncate(0)
    prefill(network, TEXT[:20])
    alone = np.uint64(1) << np.arange(40, dtype=np.uint64)
    network.run([TEXT[20], *TEXT[30:69]], np.full(40, 20), alone)
    network.commit([39])
    network.truncate(20)
    network.commit([0])
    hidden, _ = prefill(network, TEXT[60:70])
    close(network.logits(hidden), want[21:], 1e-4)


def chain_after_one():
    """A row by itself, and a chain of three beside it."""
    return np.array([0b0001, 0b0010, 0b0110, 0b1110], np.uint64)


def test_a_pass_that_is_not_settled_leaves_no_trace(network):
    want, _ = fresh(network, TEXT[:30])
    network.truncate(0)
    prefill(network, TEXT[:20])
    network.run(TEXT[60:65], 20 + np.arange(5), chain(5))
    hidden, _ = prefill(network, TEXT[20:30])
    close(network.logits(hidden), want[20:], 1e-4)


def test_lanes_do_not_see_each_other():
    network = native(checkpoint(), lanes=3)
    texts = [TEXT[:11], TEXT[20:45], TEXT[60:63]]
    alone = [fresh(native(checkpoint()), [*text, 7])[0][-1] for text in texts]
    for lane, text in enumerate(texts):
        prefill(network, text, lane=lane, chunk=8)
    at = np.array([network.length(lane) for lane in range(3)])
    hidden, _ = network.run([7, 7, 7], at, np.uint64(1) << np.arange(3, dtype=np.uint64), np.arange(3))
    np.testing.assert_array_equal(network.logits(hidden), np.stack(alone))
    network.commit([2], 2)
    network.truncate(0, 0)
    assert [network.length(lane) for lane in range(3)] == [0, 25, 4]


def test_a_full_store_says_so(network):
    capacity = network.capacity
    text = (TEXT * 3)[:capacity]
    fresh(network, text)
    assert network.length() == capacity
    network.truncate(capacity - 1)
    tokens, (depth, sees) = TEXT[:8], tree([-1, *[-1] * 7])
    network.run(tokens, capacity - 1 + depth, sees)  # a tree may be wider than the room that is left
    with pytest.raises(CapacityError):
        network.commit([0, 1])
    network.commit([7])
    with pytest.raises(CapacityError):
        network.truncate(capacity + 1)
    with pytest.raises(CapacityError, match="in one pass"):
        network.run([5] * (max_rows() + 1), np.arange(max_rows() + 1), np.ones(max_rows() + 1, np.uint64))


def test_native_passes_refuse_what_lies_outside():
    network = native(checkpoint(), capacity=32, lanes=2)
    good = {"tokens": [5, 6], "positions": np.arange(2), "sees": chain(2), "lanes": np.zeros(2), "taps": (1,)}
    network.run(**good)
    wrong = [
        {"positions": np.array([0, 32])},
        {"positions": np.array([-1, 0])},
        {"positions": np.arange(3)},
        {"lanes": np.array([0, 2])},
        {"lanes": np.array([-1, 0])},
        {"sees": chain(1)},
        {"taps": (0,)},
        {"taps": (4,)},
        {"tokens": [5, 104]},
        {"tokens": [5, -1]},
    ]
    for change in wrong:
        with pytest.raises(CapacityError):
            network.run(**good | change)
    for rows in ([2], [-1]):
        with pytest.raises(CapacityError, match="cannot settle"):
            network.commit(rows)
    with pytest.raises(CapacityError, match="lane 2"):
        network.length(2)


@pytest.mark.parametrize(
    "change",
    [{"vocab_size": 101}, {"head_dim": 16}, {"head_dim": 544}, {"intermediate_size": 80}, {"num_attention_heads": 10}],
    ids=lambda change: "-".join(map(str, *change.items())),
)
def test_sizes_without_kernels_are_left_to_torch(change):
    with pytest.raises(NativeUnsupported, match="use the torch backend"):
        native(checkpoint(**change))
    assert fresh(eager(checkpoint(**change)), TEXT[:5])[0].shape == (5, change.get("vocab_size", 104))


@pytest.mark.parametrize("change", [{"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, {"model_type": "gemma"}])
def test_networks_that_compute_something_else_are_refused(change):
    with pytest.raises(CheckpointError):
        native(checkpoint(**change))


def test_masks_of_chains_and_trees():
    assert chain(3).tolist() == [1, 3, 7]
    assert int(chain(64)[63]) == 2**64 - 1
    depth, sees = tree([-1, 0, 0, 2])
    assert depth.tolist() == [0, 1, 1, 2]
    assert sees.tolist() == [0b1, 0b11, 0b101, 0b1101]
