"""Recorded passes of published networks: residual streams and logits at the tolerance that a folder states for them."""

import torch

from mezzotint.denoisers.published.open import EVERYTHING


def close(golden, name, got, where=None):
    """`got` is the recorded tensor, within what the folder states for logits and residual streams.

    Rows outside Bool[B, N] `where` are padding whose numbers mean nothing.
    """
    if where is not None:
        got = torch.where(where[..., None], got, golden[name])
    stated = golden.meta["tolerance"]
    golden.check(name, got, rtol=stated["logits_rtol_float32"], atol=stated["logits_atol_float32"])


@torch.no_grad()
def streams(golden, network, attend=EVERYTHING):
    """Inputs of every layer, and what follows the last norm."""
    taps = golden.names(r"forward\.hidden\.\d+")
    assert taps
    last = len(taps) - 1
    out = network.decoder(golden["in.tokens"], attend=attend, taps=tuple(range(last)))
    for depth, tap in enumerate((*out.taps, out.hidden)):
        close(golden, f"forward.hidden.{depth}", tap)
