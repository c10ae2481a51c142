"""A backend is compared with its reference where it predicts answers, and nowhere else."""

import numpy as np
import torch
from numpy.testing import assert_allclose

from mezzotint.denoisers.hybrid.torch_backend import EagerDecoder
from mezzotint.denoisers.networks.llama import Decoder, DecoderConfig
from mezzotint.evaluate.bench.fidelity import causal_logits, compare, divergence


def table(rows):
    """A network that only looks at the last token."""
    rows = np.log(np.asarray(rows))
    return lambda tokens: rows[list(tokens)]


REFERENCE = table([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
OTHER = table([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])


def test_a_network_is_at_no_distance_from_itself():
    found = compare(REFERENCE, REFERENCE, [([0, 1], [2, 0])])
    assert_allclose([found.kl.mean, found.greedy.mean], [0.0, 1.0], atol=1e-12)


def test_divergence_by_hand():
    assert_allclose(divergence(REFERENCE([0, 1]), OTHER([0, 1])), [0.25 * np.log(2), 0.0], atol=1e-12)


def test_only_positions_that_predict_the_answer_count():
    found = compare(REFERENCE, OTHER, [([0, 1], [2, 0, 1]), ([0], [])])
    assert found.tokens == 3  # after tokens 1, 2 and 0; the first 0 belongs to the prompt
    assert_allclose(found.kl.mean, 0.25 * np.log(2) / 3)
    assert_allclose(found.greedy.mean, 2 / 3)


def test_many_rows_are_compared_in_parts():
    tokens = [0, 1, 2] * 50
    assert_allclose(divergence(REFERENCE(tokens), OTHER(tokens)).sum(), 50 * 0.25 * np.log(2))


def test_a_network_with_a_cache_reads_a_long_text_as_one_without():
    torch.manual_seed(0)
    sizes = {"width": 32, "inner": 48, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 8}
    decoder = Decoder(DecoderConfig(vocab=50, max_positions=256, **sizes)).eval()
    tokens = [int(t) for t in torch.randint(0, 50, (150,))]
    with torch.inference_mode():
        expected = decoder(torch.tensor([tokens])).logits[0].numpy()
    read = causal_logits(EagerDecoder(decoder, 256))
    read(tokens[:20])  # whatever was read before is forgotten
    assert_allclose(read(tokens), expected, rtol=1e-4, atol=1e-5)
