"""Discrete flow matching on the toy sources: its bound, its path, and how exact its solvers are."""

import pytest
import torch
from sources import MARKOV, PAIR, TOKEN, masks
from strings import chi_square, last, times
from test_uniform_bounds import exact, integral

from mezzotint.batch import Batch
from mezzotint.decode.canvas import infill
from mezzotint.decode.loop import decode
from mezzotint.decode.plan import Blocks
from mezzotint.decode.samplers.flow_euler import Euler
from mezzotint.decode.samplers.time_grid import TimeGrid
from mezzotint.errors import ConfigError
from mezzotint.families.flow_matching import FlowMatching, bound
from mezzotint.processes.mixture_path import MixturePath, Power, masked_source, uniform_source
from mezzotint.processes.uniform import Uniform
from mezzotint.rng import Rng, draw
from mezzotint.schedules import Cosine

VOCAB, MASK = TOKEN.real + 1, TOKEN.real


def logits(p0):
    """Raw outputs over the vocabulary, the mask without mass."""
    return torch.nn.functional.pad(p0, (0, 1)).log()


@pytest.mark.parametrize("schedule", [Power(), Power(power=3.0), Cosine(eps=0)], ids=repr)
def test_with_a_mask_source_the_bound_is_minus_log_p_of_every_sequence(schedule):
    family = FlowMatching(schedule=schedule).build(VOCAB, MASK)
    x_0, total = MARKOV.sequences, torch.zeros(81, dtype=torch.float64)
    for hidden in masks(4):
        x_t = x_0.masked_fill(hidden, MASK)
        raw, k = logits(MARKOV.masked(x_t)), int(hidden.sum())
        for node, weight in times(power=1):
            t = torch.full((81, 1), node, dtype=torch.float64)
            gone = 1 - family.process.alpha(t)[0, 0]
            chance = gone**k * (1 - gone) ** (4 - k)
            total += weight * chance * family.objective.token_loss(raw, x_0, x_t, t).sum(-1)
    torch.testing.assert_close(total, -MARKOV.p.log(), rtol=0, atol=1e-7)


def test_with_a_uniform_source_the_bound_is_loose_by_a_known_amount():
    family = FlowMatching(source="uniform").build(VOCAB, MASK)
    total = torch.zeros(3, dtype=torch.float64)
    x_0 = TOKEN.sequences
    for noise in range(3):
        x_t = torch.full((3, 1), noise)
        for node, weight in times():
            t = torch.full((3, 1), node, dtype=torch.float64)
            alpha = family.process.alpha(t)
            raw = logits(TOKEN.uniform(x_t, alpha, own=True))
            chance = (alpha * (x_t == x_0) + (1 - alpha) / 3)[:, 0]
            total += weight * chance * family.objective.token_loss(raw, x_0, x_t, t)[:, 0]
    wanted = torch.tensor([0.90473090, 1.52083119, 2.03070202], dtype=torch.float64)
    torch.testing.assert_close(total, wanted, rtol=0, atol=1e-6)
    assert float((TOKEN.p * total).sum()) > TOKEN.entropy + 0.28  # a path jumps once only


@pytest.mark.parametrize(("source", "stay"), [("mask", 0.3**2), ("uniform", 0.3**2 + (1 - 0.3**2) / 3)])
def test_a_token_survives_as_often_as_the_path_says(source, stay):
    process = FlowMatching(schedule=Power(power=2.0), source=source).build(VOCAB, MASK).process
    x_0 = torch.randint(0, 3, (400, 250), generator=torch.Generator().manual_seed(0))
    x_t = process.corrupt(x_0, torch.full((400, 1), 0.7), Rng(0))
    assert float((x_t == x_0).double().mean()) == pytest.approx(stay, abs=6e-3)


@pytest.mark.parametrize("source", [masked_source, uniform_source])
def test_posterior_marginalises_to_the_path(source):
    process = MixturePath(source(VOCAB, MASK), Power())
    a_t, a_s = torch.tensor([[0.3]]).double(), torch.tensor([[0.8]]).double()
    clean = torch.nn.functional.one_hot(torch.tensor([[1]]), VOCAB).double()
    q_t, q_s = (a[..., None] * clean + (1 - a[..., None]) * process.source for a in (a_t, a_s))
    steps = [process.posterior(clean, torch.tensor([[z]]), a_t, a_s) for z in range(VOCAB)]
    torch.testing.assert_close(sum(q_t[..., z : z + 1] * step for z, step in enumerate(steps)), q_s)


def test_the_divergence_free_term_leaves_the_path_where_it_is():
    # Kolmogorov: the change of q_t by the jumps of x_0 = 1, with and without the term, is alpha' (x_0 - source)
    process = MixturePath(torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64), Power(power=2.0))
    t = torch.tensor([[0.4]], dtype=torch.float64)
    alpha = process.alpha(t)[0, 0]
    clean = torch.nn.functional.one_hot(torch.tensor(1), 4).double()
    q = alpha * clean + (1 - alpha) * process.source
    for churn in (0.0, 0.9):
        rates = torch.cat([process.jumps(torch.tensor([[1]]), torch.tensor([[z]]), t, churn)[0] for z in range(4)])
        flow = q @ rates - q * rates.sum(-1)
        torch.testing.assert_close(flow, -process.schedule.dalpha(t)[0, 0] * (clean - process.source))


def written(process, exact, columns, steps, rule, rows=20_000):
    """Tokens that a rule writes with exact conditionals."""
    canvas = infill([[None] * columns] * rows, process.prior)

    def network(canvas, step):
        return logits(exact(canvas.tokens, process.alpha(step.t)))

    return last(decode(canvas, network, rule, Blocks(columns, steps))).tokens


def distance(tokens, source):
    """Total variation between the tokens' frequencies and the source."""
    seen = torch.bincount(source.index(tokens), minlength=len(source.p)) / len(tokens)
    return float((seen - source.p).abs().sum() / 2)


@pytest.mark.parametrize("churn", [0.0, 1.5])
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_a_single_masked_token_is_exact_in_any_number_of_steps(steps, churn):
    process = MixturePath(masked_source(VOCAB, MASK), Power())
    tokens = written(process, lambda x, a: TOKEN.masked(x), 1, steps, TimeGrid(Euler(process, churn)))
    assert chi_square(torch.bincount(tokens[:, 0], minlength=3).double(), TOKEN.p) < 4


def test_a_single_uniform_token_is_exact_by_posterior_steps_but_only_in_small_steps_by_euler():
    process = MixturePath(uniform_source(VOCAB, MASK), Power())

    def exact(x, a):
        return TOKEN.uniform(x, a.expand(len(x), 1), own=True)

    def posterior(raw, x_t, t, s, rng):
        p0 = raw.softmax(-1)
        return draw(process.posterior(p0, x_t, process.alpha(t), process.alpha(s)), rng)

    for steps in (1, 4):
        tokens = written(process, exact, 1, steps, TimeGrid(posterior))
        assert chi_square(torch.bincount(tokens[:, 0], minlength=3).double(), TOKEN.p) < 4

    def raced(p, rng):
        return (p.double() / -rng.uniform(tuple(p.shape), p.device).log()).argmax(-1)

    for solver, rows, least in ((Euler(process, pick=raced), 30_000, 3), (Euler(process), 200_000, 2)):
        few, many = (distance(written(process, exact, 1, n, TimeGrid(solver), rows), TOKEN) for n in (4, 64))
        assert few > least * many


def test_more_steps_bring_the_sampler_nearer_to_the_source():
    process = MixturePath(masked_source(VOCAB, MASK), Power())
    distances = [
        distance(written(process, lambda x, a: MARKOV.masked(x), 4, n, TimeGrid(Euler(process)), 6_000), MARKOV)
        for n in (1, 3, 9, 27)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.06


def test_the_bound_by_levels_is_the_same_on_every_schedule():
    found = []
    for schedule in (Power(), Power(power=3.0)):
        objective = bound(MixturePath(masked_source(VOCAB, MASK), schedule))
        batch = Batch(MARKOV.sample(20_000), torch.ones(20_000, 4, dtype=torch.bool))
        found.append(float(objective(lambda inputs, t: logits(MARKOV.masked(inputs.x)), batch, Rng(0)).total))
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    assert found[0] == pytest.approx(MARKOV.entropy / 4, rel=0.03)


def test_generalised_kl_is_never_negative():
    family = FlowMatching(source="uniform").build(VOCAB, MASK)
    generator = torch.Generator().manual_seed(0)
    raw = 3 * torch.randn(2000, 5, VOCAB, generator=generator)
    x_0, x_t = (torch.randint(0, 3, (2000, 5), generator=generator) for _ in range(2))
    assert (family.objective.token_loss(raw, x_0, x_t, torch.full((2000, 1), 0.4)) >= -1e-6).all()


@pytest.mark.parametrize("source", [TOKEN, PAIR], ids=lambda s: s.name)
@pytest.mark.parametrize("schedule", [Power(), Power(power=2.0)], ids=repr)
def test_the_reversal_of_a_uniform_source_has_a_tight_bound(source, schedule):
    settings = FlowMatching(source="uniform", sampler="reversal", schedule=schedule)
    process = Uniform(source.real + 1, schedule, source.mask_id)
    loss = settings.build(source.real + 1, source.mask_id).bound.token_loss
    # the network answers the ordinary posterior, which looks at the column's own token
    found = integral(source, process, loss, exact(source, process, own=True), 1e-7, 300)
    torch.testing.assert_close(found, -source.p.log(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_single_uniform_token_is_exact_in_any_number_of_reversed_steps(steps):
    family = FlowMatching(source="uniform", sampler="reversal").build(VOCAB, MASK)

    def answers(x, a):
        return TOKEN.uniform(x, a.expand(len(x), 1), own=True)

    tokens = written(family.process, answers, 1, steps, family.rule)
    assert chi_square(torch.bincount(tokens[:, 0], minlength=3).double(), TOKEN.p) < 4


def test_masks_have_no_reversal_of_their_own():
    with pytest.raises(ConfigError, match="sampler=euler"):
        FlowMatching(sampler="reversal").build(VOCAB, MASK)


# how often each noise meets each text of the pair source: any joint law will do
COUPLED = PAIR.p[None] * torch.rand(9, 9, generator=torch.Generator().manual_seed(5), dtype=torch.float64) ** 3
COUPLED = COUPLED / COUPLED.sum()


def coupled(process, t):
    """Of every noisy pair: its probability, Float64[9], and p(x_0 | x_t) per column, Float64[9, 2, 3]."""
    texts, a = PAIR.sequences, process.schedule.alpha(t)
    switched = a * (texts[:, None, None] == texts[None, None]) + (1 - a) * (
        texts[:, None, None] == texts[None, :, None]
    )
    joint = switched.double().prod(-1) * COUPLED[None]
    q = joint.sum((1, 2))
    clean = torch.nn.functional.one_hot(texts, 3).double()
    return q, torch.einsum("znx,xlv->zlv", joint, clean) / q[:, None, None]


@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
def test_velocities_carry_the_marginals_of_any_coupling(t):
    """Kolmogorov: the change of q_t is what flows in and out at p(x_0 | x_t) under the coupling."""
    process, texts = MixturePath(torch.full((3,), 1 / 3, dtype=torch.float64), Power(power=2.0)), PAIR.sequences
    t = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    q, p0 = coupled(process, t)
    change = torch.stack([torch.autograd.grad(each, t, retain_graph=True)[0] for each in q])
    with torch.no_grad():
        velocity = process.velocity(p0, texts, t.expand(9, 1))
        flow = torch.zeros(9, dtype=torch.float64)
        for column in range(2):
            other = texts[:, 1 - column]
            meets = (other[:, None] == other[None]).double()
            flow += torch.einsum("z,zy,zy->y", q, meets, velocity[:, column][:, texts[:, column]])
    # our time runs the other way
    torch.testing.assert_close(flow, -change, rtol=0, atol=1e-10)


def test_small_steps_lead_from_coupled_noise_to_the_source():
    process, rows = MixturePath(torch.full((3,), 1 / 3, dtype=torch.float64), Power()), 20_000
    starts = torch.multinomial(COUPLED.sum(1), rows, True, generator=torch.Generator().manual_seed(6))
    canvas = infill([[None] * 2] * rows, lambda shape, device, rng: PAIR.sequences[starts])

    def network(canvas, step):
        _, p0 = coupled(process, step.t[0, 0].double())
        return p0[PAIR.index(canvas.tokens)].log()

    def far(steps):
        tokens = last(decode(canvas, network, TimeGrid(Euler(process)), Blocks(2, steps))).tokens
        seen = torch.bincount(PAIR.index(tokens), minlength=9) / rows
        return float((seen - COUPLED.sum(0)).abs().sum() / 2)

    assert far(48) < min(0.02, far(2) / 2)


@pytest.mark.parametrize("kept", [0.5, 1.0])
def test_with_part_of_the_text_in_place_the_loss_is_what_the_rest_costs(kept):
    family = FlowMatching(kept=kept, schedule=Power(power=2.0)).build(VOCAB, MASK)
    rows = 60_000
    batch = Batch(MARKOV.sample(rows), torch.ones(rows, 4, dtype=torch.bool))
    found = float(family.objective(lambda inputs, t: logits(MARKOV.masked(inputs.x)), batch, Rng(0)).total) * 4
    # entropy of the source less that of what is kept, by its number of columns
    wanted = torch.zeros((), dtype=torch.float64)
    share = torch.linspace(0, kept, 2001, dtype=torch.float64)
    for hidden in masks(4):
        lost = int(hidden.sum())
        chance = torch.trapezoid(share ** (4 - lost) * (1 - share) ** lost, share) / kept
        shown = MARKOV.sequences.masked_fill(hidden, MASK)
        _, same = shown.unique(dim=0, return_inverse=True)
        mass = torch.zeros(int(same.max()) + 1, dtype=torch.float64).index_add(0, same, MARKOV.p)
        wanted += chance * (MARKOV.entropy + torch.xlogy(mass, mass).sum())
    assert found == pytest.approx(float(wanted), rel=0.02)
    # the bound stays that of whole texts
    whole = float(family.bound(lambda inputs, t: logits(MARKOV.masked(inputs.x)), batch, Rng(0)).total) * 4
    assert whole == pytest.approx(MARKOV.entropy, rel=0.02)


def test_coupled_paths_have_no_reversal():
    with pytest.raises(ConfigError, match="kept=0"):
        FlowMatching(source="uniform", sampler="reversal", kept=0.5).build(VOCAB, MASK)
