"""DiffuLLaMA's and DiffuGPT's ancestral sampler, pass by pass; uniform numbers and sampled tokens are replayed.

The published loop writes a token in the pass after the one that it was drawn in, which comes to the same.
"""

import pytest
import torch
from given import Uniforms
from networks import close

from mezzotint.decode.caches.policies import nothing
from mezzotint.decode.canvas import infill
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.decode.propose import likeliest, probable
from mezzotint.decode.reader import Reader
from mezzotint.decode.rule import ancestral
from mezzotint.decode.shapers import Temperature, TopP
from mezzotint.denoisers.published.identify import Overrides
from mezzotint.denoisers.published.open import open_published
from mezzotint.models.published import model_of
from mezzotint.schedules import Linear


class Straight:
    """The network as if its rows predicted their own columns."""

    lookback = 0

    def __init__(self, network):
        self.hidden, self.head, self.memory = network.hidden, network.head, network.memory


def opened(golden):
    family = {"DiffuLLaMA": "diffullama"}.get(golden.meta["family"])
    return model_of(open_published(golden.folder, given=Overrides(family=family, mask_id=golden.meta["mask_id"])))


@pytest.mark.golden("diffugpt")
@pytest.mark.golden("diffullama")
@torch.no_grad()
def test_every_canvas_before_every_pass(golden):
    model, checked = opened(golden), set()
    steps, given = golden.meta["diffusion_steps"], golden["in.src_mask"].bool()
    for name in sorted(field.removesuffix(".result") for field in golden.names(r"generate\..*\.result")):
        lookback = 0 if name.endswith("no_shift") else 1
        drawn, uniforms = golden[f"{name}.drawn"], golden[f"{name}.uniforms"]
        rows = [
            [token if keep else None for token, keep in zip(row, kept, strict=True)]
            for row, kept in zip(golden["in.prefix_tokens"].tolist(), given.tolist(), strict=True)
        ]
        canvas = infill(rows, model.prior)
        reader = Reader(model.network if lookback else Straight(model.network), nothing)

        def replay(raw, canvas, step, rng, name=name, drawn=drawn, uniforms=uniforms, lookback=lookback):
            columns = step.window.columns()
            u = uniforms[step.k] if step.k < len(uniforms) else torch.zeros_like(uniforms[0])
            tokens = drawn[step.k].gather(-1, columns - lookback)
            if "sampled" not in name:
                open = canvas.open.gather(-1, columns)
                assert torch.equal(likeliest(raw, rng)[0][open], tokens[open])
            propose = lambda logits, rng: (tokens, probable(logits, tokens))  # noqa: E731
            return ancestral(Linear(eps=0), model.prior, propose)(raw, canvas, step, Uniforms(u.gather(-1, columns)))

        path = [canvas, *decode(canvas, reader, replay, Blocks(canvas.tokens.shape[1], steps))]
        golden.check(f"{name}.inputs", torch.stack([each.tokens for each in path[:-1]]))
        golden.check(f"{name}.result", path[-1].tokens[:, lookback:])
        assert len(reader.passes) == len(drawn)
        checked |= {f"{name}.{field}" for field in ("inputs", "result", "drawn", "uniforms")}
    assert checked == set(golden.names(r"generate\..*"))


@pytest.mark.golden("diffugpt")
@pytest.mark.golden("diffullama")
@torch.no_grad()
def test_the_filter_of_its_draws(golden):
    network, meta = open_of(golden), golden.meta
    filtered = TopP(meta["topp_temp"]).filtered(
        Temperature(meta["logits_temp"]).filtered(network.raw(golden["in.tokens"]))
    )
    close(golden, "filter.top_p", filtered.clamp_min(float(golden["filter.top_p"].min())))


def open_of(golden):
    return opened(golden).network
