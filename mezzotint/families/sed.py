"""SED: self-conditioned diffusion on fixed embeddings (Strudel et al. 2022, arXiv 2211.04236).

Process   processes/gaussian.py on a frozen table, random or another model's, rows of norm sqrt(E), sigma_0 = 1e-2 (sec.
          3.1); cosine noise whose first beta is 2e-3, T = 1000 (sec. 4.1): processes/gaussian_schedules.py
          `cosine_from`
Loss      |x_0 - f(x_t, x~_0, t)|^2, a mean over features, plus -log p(w | x_0), which trains only the readout (sec.
          3.2)
Network   denoisers/networks/embedding_network.py with conditions=true, wrapped by `wrapped`: self-conditioning on half
          of the rows (sec. 3.3), conditions and estimates dropped together for guidance (sec. 3.5):
          denoisers/wrappers.py
Bound     none in the paper; here that of the chain from E w, nothing given, one pass a time:
          objectives/gaussian_bound.py
Spans     conditions while training, 1 to 5 spans (sec. 3.4): objectives/embedding_denoising.py `Spans`; a given column
          is clean, on features of its own, has no loss, and is known by its time, 0
Sampler   the posterior's step without clamping, each estimate read in the next step: decode/samplers/ddpm.py,
          decode/samplers/embedding_canvas.py
Differs   rotations for relative positions (the trunk's); learned E, reported unstable there, is Diffusion-LM's card;
          the paper trains both passes of self-conditioning, here the first of half of the rows and the second of others
Checked   tests/families/test_sed.py, tests/oracles/test_vectors.py
"""

from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from mezzotint.config import config
from mezzotint.decode.samplers.ddpm import GaussianReverse
from mezzotint.decode.samplers.embedding_canvas import Noting
from mezzotint.decode.samplers.time_grid import LatentGrid
from mezzotint.denoisers.wrappers import ClassifierFree, SelfConditioned, Ungiven
from mezzotint.families.base import Family
from mezzotint.families.forms.embeddings import Latent, features, real
from mezzotint.objectives.embedding_denoising import EmbeddingDenoising, Given, Noised, Spans
from mezzotint.objectives.gaussian_bound import GaussianBound
from mezzotint.objectives.times import DiscreteTimes, whole
from mezzotint.processes.gaussian import Gaussian, Readout, fresh, scaled
from mezzotint.processes.gaussian_schedules import Table, cosine_from


@config
class SED:
    """Diffusion on fixed embeddings."""

    kind: Literal["sed"] = "sed"
    width: int | None = Field(default=None, gt=0)
    """Features of an embedding; null: 8 up to 1,000 ids, 32 beyond, the best of six sizes in the paper (tab. 5)."""
    steps: int = Field(default=1000, gt=1)
    first: float = Field(default=2e-3, gt=0, lt=1)
    """Noise of the first step."""
    spread: float = Field(default=1e-2, gt=0)
    """sigma_0."""
    spans: int = Field(default=5, gt=0)
    """Most spans of a text that is infilled; 1 trains without conditions."""
    seed: int = 0
    """Of the random embeddings."""

    def build(self, vocab: int, mask_id: int) -> Family:
        """The family over `vocab` ids with random embeddings; `on` takes those of another model."""
        ids = real(vocab, mask_id)
        table = fresh(ids, features(self.width, ids, 8, 32), self.seed)
        return sed(self.on(table), self.steps, Spans(self.spans))

    def on(self, embeddings: Tensor) -> Gaussian:
        """The process on Float[V, E] embeddings."""
        table = scaled(embeddings)
        return Gaussian(table, Table.of(cosine_from(self.steps, self.first)), spread=self.spread, head=Readout(table))


def sed(process: Gaussian, steps: int, given: Given | None = None) -> Family:
    """SED on a process with frozen embeddings, trained at `steps` times."""
    update, grid = GaussianReverse(process), DiscreteTimes(whole, steps)
    objective, bound = (
        EmbeddingDenoising(process, SEDLosses(process), grid, given=given),
        EmbeddingDenoising(process, GaussianBound(process, steps), grid),
    )
    rule, form = Noting(LatentGrid(update, process.round)), Latent(process, steps, partial(wrapped, process=process))
    return Family(process, objective, rule, bound=bound, form=form, moments=update.moments, logits=False)


def wrapped(network: nn.Module, process: Gaussian, scale: float | Tensor = 1.0, *, drop: float = 0.1) -> nn.Module:
    """The network as SED trains and samples it; `scale`, a scalar or Float[B, 1], guides samples, up to 4 (sec. 3.5).

    `drop` is the share of rows trained without conditions, which the paper does not tell.
    """
    return ClassifierFree(SelfConditioned(network, process.width), Ungiven(process.width), scale, drop)


class SEDLosses:
    """(raw, what it answers) -> terms Float[B, L]."""

    def __init__(self, process: Gaussian) -> None:
        self.process = process

    def __call__(self, raw: Tensor, x: Noised) -> dict[str, Tensor]:
        """The regression, and the readout's cross-entropy."""
        nll = -self.process.round(x.z_0.detach()).gather(-1, x.tokens[..., None])[..., 0]
        return {"mse": (x.z_0 - raw).square().mean(-1), "rounding": nll}
