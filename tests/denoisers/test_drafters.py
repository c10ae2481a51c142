"""Drafters: both backends alike, whole and piecewise reading alike, and adapters that survive the disk."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tiny_hybrid import BACKENDS, SHAPE, TAPS, checkpoint, drafter, drafting, eager, fresh, native

from mezzotint.denoisers.draft_network import OTHERS, DrafterShape, TreeLimits, branches, chain
from mezzotint.denoisers.hybrid.adapter_file import load_adapter, save_adapter
from mezzotint.denoisers.hybrid.torch_backend import restored
from mezzotint.denoisers.native.drafter import NativeDrafter
from mezzotint.errors import CapacityError, CheckpointError

TEXT = [int(t) for t in np.random.default_rng(6).integers(3, 104, 200)]
CK = checkpoint()
LENGTHS = [1, 2, 19, 20, 21, 60, 61, 62, 63, 64, 65, 125, 128, 129, 150]
"""Around the window of 20 rows and the 64 rows of a pass."""


@pytest.fixture(scope="module")
def taps():
    return fresh(eager(CK), TEXT)[1]


@pytest.fixture(params=BACKENDS)
def made(request):
    return drafting(drafter(CK), BACKENDS[request.param](CK))


def close(got, want, tolerance=4e-2):
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())


def read(made, taps, n, block=3, pieces=None):
    """State and block rows after `n` context rows, read in pieces of the given sizes."""
    made.truncate(0)
    out, at = None, 0
    for size in pieces or [n]:
        out = made.read(taps[at : at + size], TEXT[at + 1 : at + size + 1], block)
        at += size
    assert at == n == made.length()
    return out


@pytest.mark.parametrize("n", LENGTHS)
def test_native_drafts_are_those_of_torch(taps, n):
    one, two = (drafting(drafter(CK), network(CK)) for network in (native, eager))
    (state, rows), (want_state, want_rows) = read(one, taps, n), read(two, taps, n)
    close(state, want_state)
    close(rows, want_rows)
    known = [TEXT[n + 1], -1, TEXT[n + 3]]
    close(one.look(known), two.look(known))
    previous = [TEXT[n + 1], TEXT[9]]
    mixed = one.advance(want_rows[:2], previous, want_rows[1:])
    close(mixed, two.advance(want_rows[:2], previous, want_rows[1:]))
    close(one.logits(want_rows), two.logits(want_rows))


@pytest.mark.parametrize("pieces", [[1] * 70, [64, 6], [6, 64], [62, 8], [33, 37], [69, 1]])
def test_reading_in_pieces_gives_the_same_drafts(made, taps, pieces):
    exact = isinstance(made, NativeDrafter)
    for got, want in zip(read(made, taps, 70, pieces=pieces), read(made, taps, 70), strict=True):
        close(got, want, 0 if exact else 1e-4)


@pytest.mark.parametrize("block", [0, 1, 3])
@pytest.mark.parametrize("n", [5, 61, 64])
def test_the_first_state_does_not_depend_on_the_block(made, taps, n, block):
    close(read(made, taps, n, block)[0], read(made, taps, n, 2)[0], 1e-4)


def test_context_rows_beyond_the_window_are_not_seen(made, taps):
    """Two layers of a window of 20 reach back 2 x 19 rows; further back anything may stand."""
    reach = SHAPE.layers * (SHAPE.window - 1) + 1
    want = read(made, taps, 60)
    changed = taps.copy()
    changed[: 60 - reach] = taps[: 60 - reach][::-1]
    for got, expected in zip(read(made, changed, 60), want, strict=True):
        close(got, expected, 1e-5)
    changed[60 - reach] *= -1
    assert np.abs(read(made, changed, 60)[0] - want[0]).max() > 0


def test_looking_again_at_a_block_of_masks_changes_nothing(made, taps):
    _, rows = read(made, taps, 40)
    close(made.look([-1, -1, -1]), rows, 1e-5)
    assert np.abs(made.look([5, -1, -1]) - rows).max() > 1e-3
    close(made.look([-1, -1, -1]), rows, 1e-5)
    assert made.look([]).shape == (0, SHAPE.width)
    assert made.length() == 40


def test_context_can_be_taken_back(made, taps):
    want = read(made, taps, 40)
    read(made, taps, 70)
    made.truncate(30)
    got = made.read(taps[30:40], TEXT[31:41], 3)
    for one, two in zip(got, want, strict=True):
        close(one, two, 1e-4)
    with pytest.raises(CapacityError):
        made.truncate(41)


def likeliest(made, rows, met, k):
    """Ids and log-probabilities over the drafter's own ids and the others of the tokens `met`, in order of meeting."""
    others = [token for token in dict.fromkeys(met) if token not in made.ids][-OTHERS:]
    module = drafter(CK)
    normed = rows / np.sqrt(np.square(rows).mean(-1, keepdims=True) + SHAPE.eps) * module.norm.weight.detach().numpy()
    native = isinstance(made, NativeDrafter)
    head = made.embedding.rows(others) if native else module.embedding[others].numpy()
    logp = torch.from_numpy(np.concatenate([made.logits(rows), normed @ head.T], 1)).log_softmax(-1).numpy()
    order = np.argsort(-logp, axis=1, kind="stable")[:, :k]
    return np.array([*made.ids, *others])[order], np.take_along_axis(logp, order, 1)


@pytest.mark.parametrize("n", [1, 20, 150])
def test_top_gives_ids_of_the_drafter_or_the_context_and_log_probabilities(made, taps, n):
    _, rows = read(made, taps, n)
    ids, logp = made.top(rows, 12)
    want_ids, want_logp = likeliest(made, rows, TEXT[1 : n + 1], 12)
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_allclose(logp, want_logp, atol=1e-4)
    assert np.isin(ids, made.ids).all() == (n == 1)


def test_what_is_taken_back_was_never_met(made, taps):
    want = made.top(read(made, taps, 40)[1], 12)
    read(made, taps, 70)
    made.truncate(30)
    _, rows = made.read(taps[30:40], TEXT[31:41], 3)
    ids, logp = made.top(rows, 12)
    np.testing.assert_array_equal(ids, want[0])
    np.testing.assert_allclose(logp, want[1], atol=1e-4)
    made.truncate(0)
    assert np.isin(made.top(rows, 40)[0], made.ids).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_many_ids_that_were_met_the_last_are_drafted(backend):
    wide = checkpoint(vocab_size=304)
    module = drafter(wide)
    made = drafting(module, BACKENDS[backend](wide, capacity=300))
    strange = [token for token in range(304) if token not in made.ids]
    assert len(strange) > OTHERS + 50
    made.read(np.ones((len(strange), len(TAPS), SHAPE.width), np.float32), strange)
    pointing = (module.embedding[strange] / module.norm.weight).detach().numpy()
    drafted = made.top(pointing[-64:], 1)[0][:, 0], made.top(pointing[:64], 1)[0][:, 0]
    assert drafted[0].tolist() == strange[-64:]
    assert not set(drafted[1]) & set(strange[:-OTHERS])


def test_following_is_advancing_and_taking_the_top(made, taps):
    _, rows = read(made, taps, 20)
    state, ids, logp = made.follow(rows[:2], [5, 9], rows[1:], 4)
    np.testing.assert_allclose(state, made.advance(rows[:2], [5, 9], rows[1:]), atol=1e-5)
    want_ids, want_logp = made.top(state, 4)
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_allclose(logp, want_logp, atol=1e-4)


@pytest.mark.parametrize("decided", [[-1, -1, -1], [7, -1, 9], [0, 1, 2]])
def test_the_native_chain_is_the_step_by_step_one(taps, decided):
    made = drafting(drafter(CK), native(CK))
    state, rows = read(made, taps, 20)
    whole = chain(made, state, rows, decided)
    np.testing.assert_allclose(made.chain(state, rows, decided), whole, atol=1e-5)
    likeliest = 1 / np.exp(whole - whole.max(-1, keepdims=True)).sum(-1)
    chances = np.cumprod(likeliest)
    for columns in range(1, len(rows) + 2):  # as long as the gate lets it
        gate = float(chances[columns - 1]) * 1.001
        np.testing.assert_allclose(made.chain(state, rows, decided, gate), whole[:columns], atol=1e-5)
        assert len(chain(made, state, rows, decided, gate)) == columns


@pytest.mark.parametrize(
    "growth",
    [
        TreeLimits(8, 0.0, 3, 2),
        TreeLimits(7, 0.05, 3, 2),
        TreeLimits(3, 0.0, 4, 4),
        TreeLimits(1, 0.0, 1, 1),
        TreeLimits(8, 0.99, 3, 2),
    ],
    ids=repr,
)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_the_native_tree_is_the_step_by_step_one(taps, growth, rows):
    made = drafting(drafter(CK), native(CK))
    for n in (5, 20, 40):
        state, block = read(made, taps, n)
        tokens, parents, scores = made.branches(state, block[:rows], growth)
        want = branches(made, state, block[:rows], growth)
        assert (tokens, parents) == want[:2]
        np.testing.assert_allclose(scores, want[2], rtol=1e-4)
        assert all(parent <= i for i, parent in enumerate(parents))


def test_native_heads_refuse_what_does_not_fit(taps):
    made = drafting(drafter(CK), native(CK))
    _, rows = read(made, taps, 20)
    for previous in ([5, 104], [-1, 5], [5]):
        with pytest.raises(CapacityError):
            made.follow(rows[:2], previous, rows[1:], 2)
    for k in (0, 41):
        with pytest.raises(CapacityError):
            made.top(rows, k)
    with pytest.raises(CapacityError):
        made.top(rows[:, :32], 2)
    with pytest.raises(CapacityError):
        made.chain(rows[0], rows[1:], [5])
    with pytest.raises(CapacityError):
        made.look([5, -2])
    with pytest.raises(CapacityError):
        made.branches(rows[0], rows[1:], TreeLimits(4, 0.0, 41, 2))


def test_a_drafter_of_another_shape_works_too(taps):
    shape = replace(SHAPE, layers=1, taps=(2,), window=1, heads=4, kv_heads=4, block=6)
    made = drafter(CK, shape)
    one, two = (drafting(made, network(CK)) for network in (native, eager))
    for got, want in zip(read(one, taps[:, 1:2], 66, 6), read(two, taps[:, 1:2], 66, 6), strict=True):
        close(got, want)


def test_an_adapter_comes_back_from_the_disk_in_eight_bits(tmp_path):
    made, path = drafter(CK), tmp_path / "adapter.safetensors"
    save_adapter(made, path, "tiny", {"steps": 3})
    shape, arrays, metadata = load_adapter(path)
    assert (shape, metadata["base"]) == (SHAPE, "tiny")
    again = restored(shape, arrays, made.embedding)
    for name, value in made.state_dict().items():
        got = again.state_dict()[name]
        if name == "ids":
            assert torch.equal(got, value)
        elif value.ndim == 2:
            most = value.reshape(len(value), -1, 32).abs().amax(-1).repeat_interleave(32, 1)
            assert ((got - value).abs() <= most * (0.5 / 127 + 2**-10)).all()
        else:
            torch.testing.assert_close(got, value, rtol=1e-3, atol=1e-3)


def test_saving_what_was_loaded_changes_nothing(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    made = drafter(CK)
    save_adapter(made, one, "tiny", {})
    save_adapter(restored(*load_adapter(one)[:2], made.embedding), two, "tiny", {})
    for name, value in load_adapter(one)[1].items():
        np.testing.assert_allclose(load_adapter(two)[1][name], value, rtol=2e-3, atol=1e-6)


def test_damaged_adapters_are_refused(tmp_path):
    path = tmp_path / "adapter.safetensors"
    made = drafter(CK)
    save_adapter(made, path, "tiny", {})
    whole, arrays = path.read_bytes(), load_file(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot read"):
        load_adapter(path)
    path.write_bytes(b"no tensors at all")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_adapter(path)
    with pytest.raises(CheckpointError, match="cannot read"):
        load_adapter(tmp_path / "nothing")
    save_file(arrays, path)
    with pytest.raises(CheckpointError, match="no drafter"):
        load_adapter(path)
    kind = {"format": "mezzotint-drafter-1"}
    for shape in ({}, {"shape": "{"}, {"shape": "[]"}, {"shape": '{"width": 64}'}):
        save_file(arrays, path, kind | shape)
        with pytest.raises(CheckpointError, match="damaged"):
            load_adapter(path)


@pytest.mark.parametrize("name", ["ids", "mix_in.weight.scale", "mix_in.weight", "norm.weight"])
def test_adapters_with_a_missing_part_are_refused(tmp_path, name):
    path = tmp_path / "adapter.safetensors"
    made = drafter(CK)
    save_adapter(made, path, "tiny", {})
    _, _, metadata = load_adapter(path)
    save_file({key: value for key, value in load_file(path).items() if key != name}, path, metadata)
    with pytest.raises(CheckpointError):
        restored(*load_adapter(path)[:2], made.embedding)


def test_adapters_of_another_model_are_refused(tmp_path):
    path = tmp_path / "adapter.safetensors"
    made = drafter(CK)
    save_adapter(made, path, "tiny", {})
    shape, arrays, _ = load_adapter(path)
    for embedding in (torch.zeros(104, 32), torch.zeros(20, 64)):
        with pytest.raises(CheckpointError, match="another model"):
            restored(shape, arrays, embedding)
    with pytest.raises(CheckpointError, match="own sizes"):
        restored(replace(shape, mixer=64), arrays, made.embedding)


def test_shapes_survive_json_and_ignore_what_later_versions_add():
    assert DrafterShape.from_dict(SHAPE.to_dict() | {"taps": list(TAPS), "later": 1}) == SHAPE
