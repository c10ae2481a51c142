"""Checks for tests of schedules, processes and families that others write: the identities that ours are held to.

Each raises AssertionError where something does not hold, with what was found; none needs pytest.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mezzotint.batch import Batch
from mezzotint.config import config, from_dict, to_dict
from mezzotint.data.characters import Characters
from mezzotint.denoisers.networks.small_transformer import TransformerConfig
from mezzotint.families.base import FamilyRecord, objective_of
from mezzotint.models.trained import TrainedConfig, TrainedModel
from mezzotint.objectives.bits import measure
from mezzotint.processes.base import Discrete, Process
from mezzotint.processes.gaussian import Gaussian
from mezzotint.rng import Rng
from mezzotint.schedules import Schedule, Survival

ROWS, LENGTH = 64, 16


@config
class _Holder:
    schedule: Schedule


def check_schedule(schedule: Survival, least: float = 0.9, left: float = 0.1) -> None:
    """A schedule falls from clean to noise, with its derivative and its inverse, and survives run.json.

    Args:
        schedule: a record.
        least: survival at t = 0 that is enough.
        left: survival at t = 1 that is little enough.

    Raises:
        AssertionError: one of these does not hold.
    """
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64, requires_grad=True)
    alpha = schedule.alpha(t)
    assert bool((alpha.diff() < 0).all()), "alpha does not fall strictly"
    (slope,) = torch.autograd.grad(alpha.sum(), t)
    t, alpha = t.detach(), alpha.detach()
    _equal(schedule.dalpha(t), slope, "dalpha is not the derivative of alpha")
    _equal(schedule.time(alpha), t, "time is not the inverse of alpha")
    start, end = schedule.alpha(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    assert least <= start <= 1, f"alpha(0) is {start}, not between {least} and 1"
    assert 0 <= end <= left, f"alpha(1) is {end}, not between 0 and {left}"
    for shape in ((3, 1), (3, 5)):
        for made in (schedule.alpha, schedule.dalpha, schedule.time):
            found = made(torch.full(shape, 0.5))
            assert found.shape == shape, f"times of shape {shape} give {tuple(found.shape)}"
            assert found.dtype == torch.float32, f"float32 times give {found.dtype}"
    held = _Holder(schedule=schedule)
    assert from_dict(_Holder, to_dict(held)) == held, "the schedule that run.json gives back is another one"


def check_process(process: Process, mask_id: int | None = None, draws: int = 1 << 14) -> None:
    """Noising to t and stepping back to s is the same as noising to s; priors and held columns are what they should be.

    Args:
        process: with tokens (`Discrete`) or vectors (`Gaussian`).
        mask_id: the id that is no text, where there is one.
        draws: random ones per clean token; shares are compared up to five standard deviations.

    Raises:
        AssertionError: one of these does not hold.
    """
    if isinstance(process, Gaussian):
        _check_gaussian(process)
    assert isinstance(process, Gaussian | Discrete), f"{type(process).__name__} is neither Discrete nor Gaussian"
    if isinstance(process, Discrete):
        _check_discrete(process, mask_id, draws)


def check_family(record: FamilyRecord, vocab: int = 6, network: TransformerConfig | None = None) -> None:
    """A family survives run.json, learns, never claims less than the entropy of its text, and keeps what is given.

    Texts are independent tokens, evenly drawn, whose entropy is log(vocab - 1) nats per token, so that a network that
    knows nothing is as good as any, and a bound below that is none.

    Args:
        record: the settings of the family.
        vocab: ids, the last of them [MASK].
        network: of a small trunk; one that is told the time if not given.

    Raises:
        AssertionError: one of these does not hold.
    """
    trunk = network or TransformerConfig(width=16, layers=1, heads=2, timed=True)
    shape = TrainedConfig(network=trunk, family=record, length=LENGTH)
    assert from_dict(TrainedConfig, to_dict(shape)) == shape, "the family that run.json gives back is another one"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TrainedModel.fresh(shape, Characters(tuple(chr(97 + token) for token in range(vocab - 1))))
    tokens = torch.randint(vocab - 1, (4, ROWS, LENGTH), generator=torch.Generator().manual_seed(1))
    batches = [Batch(rows, torch.ones_like(rows, dtype=torch.bool)) for rows in tokens]
    _check_learning(model, batches[0])
    found = measure(model.network, objective_of(model.family), batches, draws=8)
    entropy = math.log(vocab - 1)
    assert found.nats + 5 * found.error >= entropy, (
        f"the bound is {found.nats:.4f} nats per token (standard error {found.error:.4f}) on text of {entropy:.4f}"
    )
    _check_writing(model)


def _check_discrete(process: Discrete, mask_id: int | None, draws: int) -> None:
    noise = process.prior((3, 5), None, Rng(0))
    assert noise.shape == (3, 5), f"the prior of 3 rows of 5 columns has shape {tuple(noise.shape)}"
    assert noise.dtype == torch.long, f"the prior is {noise.dtype}, not long"
    assert bool(((noise >= 0) & (noise < process.vocab)).all()), f"the prior has ids outside 0 to {process.vocab - 1}"
    fixed = torch.tensor([[True, False, False, True, False]]).expand(3, -1)
    held = process.hold(noise, torch.zeros_like(noise), fixed)
    assert bool((held == torch.where(fixed, 0, noise)).all()), "hold does not keep fixed columns clean"
    for token in range(process.vocab):
        if token == mask_id:
            continue
        x_0 = torch.full((1, draws), token)
        p0 = F.one_hot(x_0, process.vocab).double()
        for t, s in ((0.9, 0.4), (0.5, 0.2)):
            times = [torch.tensor([[u]], dtype=torch.float64) for u in (t, s)]
            x_t, x_s = (process.corrupt(x_0, u, Rng(number)) for number, u in enumerate(times))
            again = process.corrupt(x_0, times[0], Rng(0))
            assert bool((x_t == again).all()), "the same rng does not give the same noise"
            back = process.posterior(p0, x_t, *(process.alpha(u, x_0) for u in times))
            assert back.shape == p0.shape, f"the posterior has shape {tuple(back.shape)}, not {tuple(p0.shape)}"
            assert bool((back >= -1e-9).all()), "the posterior has negative probabilities"
            _equal(back.sum(-1), torch.ones_like(back[..., 0]), "rows of the posterior do not sum to one")
            direct = F.one_hot(x_s, process.vocab).double().mean(1)
            gap = (back.mean(1) - direct).abs().max()
            assert gap < 5 / (2 * draws) ** 0.5, (
                f"token {token} noised to {t} and stepped back to {s} is {gap:.3f} away from noised to {s}"
            )


def _check_gaussian(process: Gaussian) -> None:
    noise = process.prior((3, 5), None, Rng(0))
    assert noise.shape == (3, 5, process.width), f"the prior of 3 rows of 5 columns has shape {tuple(noise.shape)}"
    z_0 = torch.linspace(-1, 1, process.width, dtype=process.table.dtype).expand(1, 1, -1)
    for t, s in ((0.9, 0.4), (0.5, 0.2)):
        a_t, a_s = (process.alpha(torch.tensor([[u]], dtype=torch.float64)) for u in (t, s))
        centre = a_t.sqrt()[..., None].to(z_0.dtype) * z_0
        mean, std = process.posterior(z_0, centre, a_t, a_s)
        _equal(mean, (a_s.sqrt()[..., None] * z_0).to(mean.dtype), "the posterior's mean leaves the signal", 1e-5)
        slope = process.posterior(z_0, centre + 1, a_t, a_s)[0] - mean
        variance = slope.double() ** 2 * (1 - a_t)[..., None] + std.double() ** 2
        _equal(variance, (1 - a_s)[..., None].expand_as(variance), "the posterior's variance is not that of s", 1e-4)


def _check_learning(model: TrainedModel, batch: Batch) -> None:
    loss = model.family.objective(model.network, batch, Rng(0))
    assert loss.total.dim() == 0, f"the loss is no scalar: {tuple(loss.total.shape)}"
    assert bool(loss.total.isfinite()), f"the loss is {float(loss.total)}"
    loss.total.backward()
    slopes = [p.grad for p in model.network.parameters() if p.grad is not None]
    assert any(bool((slope != 0).any()) for slope in slopes), "the loss does not reach the network"
    assert all(bool(slope.isfinite().all()) for slope in slopes), "gradients are not finite"
    other = model.family.objective(model.network, batch, Rng(0))
    assert float(other.total.detach()) == float(loss.total.detach()), "the same rng does not give the same loss"


def _check_writing(model: TrainedModel) -> None:
    block = model.family.block or LENGTH
    rows: list[list[Any]] = [[0, 1] + [None] * (block - 3) + [2] + [None] * (LENGTH - block), [None] * LENGTH]
    start = model.canvas(rows)
    *_, canvas = model.decode(start, 8)
    assert not bool(canvas.open.any()), "columns are still undecided after the last step"
    mask_id, written = model.vocabulary.mask_id, model.form.written(canvas)
    assert not bool((written == mask_id).any()), "the mask was written as text"
    if model.family.form is None:
        kept: Tensor = torch.where(start.fixed, start.tokens, canvas.tokens)
        assert bool((kept == canvas.tokens).all()), "columns that were given have changed"


def _equal(found: Tensor, wanted: Tensor, else_: str, tolerance: float = 1e-6) -> None:
    """Raises AssertionError with the largest difference where two tensors are not close."""
    gap = float((found - wanted).abs().max())
    assert gap <= tolerance * (1 + float(wanted.abs().max())), f"{else_}: they differ by {gap:.2g}"
