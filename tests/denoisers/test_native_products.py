"""Quantised products: right to float32 rounding, and the same bits for any number of rows and threads."""

import numpy as np
import pytest
from tiny_hybrid import pool

from mezzotint.denoisers.native.binding import max_rows
from mezzotint.denoisers.native.runtime import NativeLinear, ThreadPool, instructions, top
from mezzotint.errors import CapacityError, CheckpointError

SIZES = [(8, 32), (40, 96), (72, 160), (264, 64)]
ROWS = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 20]


HEAD = "head"
KINDS = [4, 8, HEAD]


def made(bits, n, k, seed=0):
    """A matrix and Float64[n, k], what its blocks say, with scales rounded to halves as they are stored."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.01, 0.1, (n, k // 32)).astype(np.float16).astype(np.float32)
    if bits == 4:
        codes = rng.integers(0, 16, (n, k)).astype(np.uint8)
        minimum = rng.normal(-0.4, 0.2, scale.shape).astype(np.float16).astype(np.float32)
    else:
        codes, minimum = rng.integers(-127, 128, (n, k)).astype(np.int8), None
    blocks = codes.reshape(n, -1, 32).astype(np.float64) * scale[..., None]
    values = blocks if minimum is None else blocks + minimum[..., None]
    return NativeLinear(codes, scale, minimum, head=bits == HEAD), values.reshape(n, k)


def rounded(x, bits):
    """What the kernels make of activations, Float64[n, k / 32, 32]: integers times one scale per 32."""
    blocks = x.reshape(len(x), -1, 32)
    limit = np.float32(32767 if bits == 8 else 127)
    most = np.abs(blocks).max(-1, keepdims=True)
    inverse = np.divide(limit, most, out=np.zeros_like(most), where=most > 0)
    return np.rint(blocks * inverse).astype(np.float64) * (most / limit)


def activations(n, k, seed=1):
    x = np.random.default_rng(seed).normal(0, 1, (n, k)).astype(np.float32)
    x[0, :32] = 0  # a block of zeros has no scale
    x[-1] *= 1e-3
    return x


@pytest.mark.parametrize("bits", [8, HEAD])
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_eight_bit_products_equal_those_of_the_rounded_numbers(n, k, bits):
    matrix, weight = made(bits, n, k)
    x = activations(20, k)
    want = rounded(x, bits).reshape(x.shape) @ weight.T
    np.testing.assert_allclose(matrix.apply(pool(), x), want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize(("n", "k"), SIZES)
def test_four_bit_products_equal_those_of_the_rounded_numbers(n, k):
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.01, 0.1, (n, k // 32)).astype(np.float16).astype(np.float32)
    codes = rng.integers(0, 16, (n, k)).astype(np.uint8)
    minimum = rng.normal(-0.4, 0.2, scale.shape).astype(np.float16).astype(np.float32)
    x = activations(20, k)
    by_scale = np.einsum("mbi,nbi,nb->mn", rounded(x, 4), codes.reshape(n, -1, 32), scale, optimize=True)
    by_minimum = x.reshape(len(x), -1, 32).astype(np.float64).sum(-1) @ minimum.T
    got = NativeLinear(codes, scale, minimum).apply(pool(), x)
    want = by_scale + by_minimum
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("bits", KINDS)
def test_the_largest_codes_and_activations_do_not_overflow(bits, sign):
    codes = np.full((8, 64), 15 if bits == 4 else 127 * sign, np.uint8 if bits == 4 else np.int8)
    scale = np.ones((8, 2), np.float32)
    matrix = NativeLinear(codes, scale, np.zeros_like(scale) if bits == 4 else None, head=bits == HEAD)
    for x in (100, -100):
        got = matrix.apply(pool(), np.full((1, 64), x, np.float32))
        np.testing.assert_allclose(got, np.full((1, 8), 64.0 * x * codes[0, 0]), rtol=1e-5)


@pytest.mark.parametrize("bits", KINDS)
@pytest.mark.parametrize("rows", ROWS)
def test_a_row_has_the_same_bits_alone_and_among_others(bits, rows):
    matrix = made(bits, 72, 160)[0]
    x = activations(rows, 160)
    alone = np.concatenate([matrix.apply(pool(), x[i : i + 1]) for i in range(rows)])
    np.testing.assert_array_equal(matrix.apply(pool(), x), alone)


@pytest.mark.parametrize("bits", KINDS)
def test_more_rows_than_one_pass_takes_are_done_in_parts(bits):
    matrix = made(bits, 8, 32)[0]
    x = activations(2 * max_rows() + 3, 32)
    alone = np.concatenate([matrix.apply(pool(), x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_array_equal(matrix.apply(pool(), x), alone)


@pytest.mark.parametrize("bits", KINDS)
@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_does_not_change_a_bit(bits, threads):
    matrix = made(bits, 264, 64)[0]
    x = activations(9, 64)
    np.testing.assert_array_equal(matrix.apply(ThreadPool(threads), x), matrix.apply(pool(), x))


def test_a_norm_may_come_before_the_product():
    matrix, weight = made(8, 40, 96)
    x, norm = activations(5, 96), np.random.default_rng(3).normal(1, 0.2, 96).astype(np.float32)
    wide = x.astype(np.float64)
    normed = wide / np.sqrt(np.square(wide).mean(-1, keepdims=True) + 1e-5) * norm
    np.testing.assert_allclose(matrix.apply(pool(), x, norm, 1e-5), normed @ weight.T, rtol=1e-3, atol=5e-3)


def test_results_go_where_the_caller_says():
    matrix, x, out = made(8, 40, 96)[0], activations(3, 96), np.zeros((7, 40), np.float32)
    got = matrix.apply(pool(), x, out=out)
    np.testing.assert_array_equal(got, matrix.apply(pool(), x))
    np.testing.assert_array_equal(out[:3], got)
    assert not out[3:].any()


@pytest.mark.parametrize("bits", [8, HEAD])
def test_rows_are_what_the_blocks_say(bits):
    matrix, weight = made(bits, 40, 96)
    np.testing.assert_allclose(matrix.rows([0, 39, 7, 7]), weight[[0, 39, 7, 7]], rtol=1e-6)
    assert matrix.rows([]).shape == (0, 96)


def test_floats_round_to_half_a_step_of_eight_bits():
    weight = np.random.default_rng(0).normal(0, 1, (16, 64)).astype(np.float32)
    weight[3, 32:] = 0
    step = np.abs(weight.reshape(16, 2, 32)).max(-1).repeat(32, 1) / 127
    error = np.abs(NativeLinear.from_float(weight).rows(range(16)) - weight)
    # half a step, and what rounding the scale to a half costs the largest codes
    assert (error <= step * 0.5 + np.abs(weight) * 2**-11 + 1e-7).all()


@pytest.mark.parametrize("vocab", [5, 8, 64, 71, 1000])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_equals_a_stable_sort(vocab, k):
    logits = np.random.default_rng(0).integers(-6, 6, (4, vocab)).astype(np.float32)  # many ties
    index, value, lse = top(pool(), logits, k)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(value, np.take_along_axis(logits, order, 1))
    np.testing.assert_allclose(lse, np.log(np.exp(logits.astype(np.float64)).sum(1)), rtol=1e-5)


def test_top_of_wide_and_strided_logits():
    wide = np.random.default_rng(0).normal(0, 40, (3, 2 * 777)).astype(np.float32)
    index, _, lse = top(pool(), wide[:, ::2], 7)
    logits = wide[:, ::2].astype(np.float64)
    np.testing.assert_array_equal(index, np.argsort(-logits, axis=1, kind="stable")[:, :7])
    most = logits.max(1)
    np.testing.assert_allclose(lse, most + np.log(np.exp(logits - most[:, None]).sum(1)), rtol=1e-5)


def test_what_does_not_fit_is_refused_before_the_kernels_see_it():
    matrix = made(8, 40, 96)[0]
    codes, scale = np.zeros((8, 64), np.int8), np.ones((8, 2), np.float32)
    with pytest.raises(CheckpointError, match="9 x 64"):
        NativeLinear(np.zeros((9, 64), np.int8), np.ones((9, 2), np.float32), None)
    with pytest.raises(CheckpointError, match="8 x 48"):
        NativeLinear(np.zeros((8, 48), np.int8), np.ones((8, 1), np.float32), None)
    for wrong in (scale[:, :1], scale[:4]):
        with pytest.raises(CheckpointError):
            NativeLinear(codes, wrong, None)
        with pytest.raises(CheckpointError):
            NativeLinear(codes, scale, wrong)
    with pytest.raises(CapacityError):
        matrix.apply(pool(), np.zeros((2, 64), np.float32))
    with pytest.raises(CapacityError):
        matrix.apply(pool(), np.zeros((2, 96), np.float32), np.ones(64, np.float32))
    with pytest.raises(CapacityError):
        matrix.apply(pool(), np.zeros((2, 96), np.float32), out=np.zeros((1, 40), np.float32))
    for row in (-1, 40):
        with pytest.raises(CapacityError, match=f"row {row}"):
            matrix.rows([0, row])
    with pytest.raises(CapacityError, match="4 bits"):
        made(4, 8, 32)[0].rows([0])
    for k in (0, 6):
        with pytest.raises(CapacityError):
            top(pool(), np.zeros((1, 5), np.float32), k)
    with pytest.raises(CapacityError, match="0 threads"):
        ThreadPool(0)


def test_the_kernels_say_what_they_were_compiled_for():
    assert instructions() in ("avx2", "avx2+vnni", "avx512+vnni")
