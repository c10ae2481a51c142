"""What a network said and thought, written down exactly, and batches cut from it."""

import itertools
import json

import numpy as np
import pytest
import torch
from tiny_hybrid import SHAPE, TAPS, checkpoint, drafter, native, pool

from mezzotint.denoisers.causal_network import prefill
from mezzotint.denoisers.hybrid.torch_backend import EagerDrafter
from mezzotint.denoisers.native.runtime import top
from mezzotint.errors import ConfigError
from mezzotint.train.drafter.answers import FIELDS, Index, Plan, Writer
from mezzotint.train.drafter.batches import DraftData, DraftSettings, accepted, frequent
from mezzotint.train.drafter.loss import DraftBatch, DraftLoss
from mezzotint.train.loop import run
from mezzotint.train.optim import Constant, Orthogonal
from mezzotint.train.task import Task, Train

CK = checkpoint()
EOS = 7
PLAN = Plan(taps=TAPS, eos=frozenset({EOS}), top=5, answer=20, context=80, greedy=0.5, temperature=0.7, seed=3)


def chat(messages):
    """A user's turn is 1, its letters, 2; an answer its letters and the end token."""
    ids = []
    for message in messages:
        letters = [int(x) for x in message["content"].split()]
        ids += [1, *letters, 2] if message["role"] == "user" else [*letters, EOS]
    return ids


def conversation(number):
    rng = np.random.default_rng(number)
    return [" ".join(map(str, rng.integers(8, 104, rng.integers(1, 9)))) for _ in range(1 + number % 3)]


def decode(ids):
    return " ".join(map(str, ids))


def writing(folder, lanes=3):
    network = native(CK, capacity=PLAN.context + 64, lanes=lanes)
    writer = Writer(folder, network, chat, lambda logits, k: top(pool(), logits, k), PLAN)
    return writer, writer.write(conversation, decode, lanes)


def fill(folder, tokens, lanes=3):
    writer, steps = writing(folder, lanes)
    for kept in steps:
        if kept >= tokens:
            return writer.index
    raise AssertionError("writing goes on for ever")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("answers")
    fill(made, 1500)
    return made


def entries(folder):
    """(number, arrays by name) of every finished conversation."""
    arrays = Index(folder).arrays(PLAN.top, len(TAPS), SHAPE.width)
    for line in (folder / "index.jsonl").read_text().splitlines():
        e = json.loads(line)
        yield e["number"], {name: a[e["start"] : e["start"] + e["length"]] for name, a in arrays.items()}


def test_conversations_are_questions_and_answers(folder):
    for number, found in entries(folder):
        tokens, answer = found["tokens"].tolist(), found["answer"].astype(bool)
        turns = conversation(number)
        assert tokens[: len(turns[0].split()) + 2] == chat([{"role": "user", "content": turns[0]}])
        assert not answer[: len(turns[0].split()) + 2].any()
        assert answer[-1]
        assert len(tokens) <= PLAN.context
        # an answer begins behind 2 and ends with the end token, or is cut
        starts = np.flatnonzero(np.diff(answer.astype(int)) == 1)
        assert all(tokens[start] == 2 for start in starts)
        ends = [i for i in np.flatnonzero(np.diff(answer.astype(int)) == -1)]
        assert all(tokens[end] == EOS for end in ends)
        assert 1 <= len(starts) <= len(turns)


def test_what_was_thought_is_what_a_fresh_reading_thinks(folder):
    network = native(CK, capacity=PLAN.context + 64)
    for _, found in list(entries(folder))[:12]:
        network.truncate(0)
        hidden, taps = prefill(network, found["tokens"].tolist(), TAPS)
        logits = np.array(network.logits(hidden))
        np.testing.assert_array_equal(found["taps"], taps.astype(np.float16))
        known = np.isfinite(found["top_logp"]).all(1)
        # the token that follows was drawn from the row before it
        np.testing.assert_array_equal(known[:-1], found["answer"][1:] > 0)
        assert not known[-1]
        logp = logits - np.log(np.exp(logits.astype(np.float64)).sum(1, keepdims=True))
        order = np.argsort(-logits, axis=1, kind="stable")[:, : PLAN.top]
        np.testing.assert_array_equal(found["top_ids"][known], order[known])
        want = np.take_along_axis(logp, order, 1)[known]
        np.testing.assert_allclose(found["top_logp"][known], want, atol=1e-2, rtol=1e-3)


def test_greedy_answers_are_the_argmax_and_others_are_not_always(folder):
    shares = []
    for number, found in entries(folder):
        known = np.flatnonzero(np.isfinite(found["top_logp"]).all(1))
        right = found["tokens"][known + 1] == found["top_ids"][known, 0]
        greedy = np.random.default_rng((PLAN.seed, number)).random() < PLAN.greedy
        assert right.all() or not greedy
        shares.append((greedy, right.mean()))
    assert {greedy for greedy, _ in shares} == {True, False}
    assert np.mean([share for greedy, share in shares if not greedy]) < 0.95


def test_texts_do_not_depend_on_the_number_of_lanes(folder, tmp_path):
    fill(tmp_path, 400, lanes=1)
    many = {number: found["tokens"].tolist() for number, found in entries(folder)}
    for number, found in entries(tmp_path):
        assert many.get(number, found["tokens"].tolist()) == found["tokens"].tolist()


def test_a_killed_run_goes_on_and_loses_nothing_that_was_finished(tmp_path):
    fill(tmp_path, 300)
    before = [(number, {k: v.copy() for k, v in found.items()}) for number, found in entries(tmp_path)]
    # killed while writing: arrays are longer than the index says, its last line is torn
    for name in FIELDS:
        with open(tmp_path / f"{name}.bin", "ab") as file:
            file.write(b"\x07" * 999)
    with open(tmp_path / "index.jsonl", "ab") as file:
        file.write(b'{"number": 99, "sta' + b" " * 99)
    fill(tmp_path, 600)
    after = list(entries(tmp_path))
    assert len({number for number, _ in after}) == len(after) > len(before)
    for (number, want), (again, got) in zip(before, after, strict=False):
        assert number == again
        for name in FIELDS:
            np.testing.assert_array_equal(got[name], want[name])
    spans = Index(tmp_path).spans
    assert [start for start, _ in spans] == [sum(n for _, n in spans[:i]) for i in range(len(spans))]


def test_the_most_frequent_ids_of_answers(folder):
    counts = np.zeros(104)
    for _, found in entries(folder):
        np.add.at(counts, found["tokens"][found["answer"] > 0], 1)
    got = frequent(folder, 16, 104, (EOS, 103)).tolist()
    assert got == sorted(set(got))
    assert len(got) == 16
    assert {EOS, 103} <= set(got)
    rest = [i for i in range(104) if i not in (EOS, 103)]
    most = sorted(rest, key=lambda i: -counts[i])[:14]
    assert min(counts[[i for i in got if i not in (EOS, 103)]]) == min(counts[most])


@pytest.fixture(scope="module")
def data(folder):
    return DraftData(folder, drafter(CK), DraftSettings(rows=300, held_out=5), top=PLAN.top)


def test_batches_depend_on_step_and_seed_alone(data):
    def same(one, two):
        return all(torch.equal(getattr(one, name), getattr(two, name)) for name in one.__slots__)

    want = [data.batch(step, 1) for step in range(6)]
    assert all(same(data.batch(step, 1), want[step]) for step in (3, 0, 5))
    assert not all(same(data.batch(step, 2), want[step]) for step in range(6))


def test_every_conversation_for_training_comes_once_in_an_epoch(data):
    spans = sorted(span for batch in data.batches for span in batch)
    assert spans == sorted(data.train)
    assert not set(data.train) & set(data.held_out)
    assert len(data.held_out) >= len(data.train) // 5


def test_batches_hold_what_the_files_hold(data, folder):
    made = drafter(CK)
    for step in range(4):
        batch = data.batch(step, 0)
        b, n = batch.tokens.shape
        assert batch.anchors.max() < n - 1
        assert all(len(set(row)) == len(row) for row in batch.anchors.tolist())
        assert batch.known.shape == (b, batch.anchors.shape[1], SHAPE.block)
        named_by = torch.cat([made.ids, batch.others])
        assert ((batch.top_ids >= -1) & (batch.top_ids < len(named_by))).all()
        assert len(set(named_by.tolist())) == len(named_by)
        assert set(batch.tokens.unique().tolist()) <= set(named_by.tolist())
        for row in range(b):
            learned = batch.top_p[row].sum(-1) > 0
            assert (batch.top_p[row].sum(-1) <= 1.01).all()
            position = int(learned.nonzero()[0])
            named = batch.top_ids[row, position]
            back = torch.where(named >= 0, named_by[named], -1)
            arrays = data.arrays
            tokens = batch.tokens[row, : position + 2].numpy()
            hits = [s for s, k in data.train if (arrays["tokens"][s : s + position + 2] == tokens).all()]
            assert any(((arrays["top_ids"][s + position] == back.numpy()) | (back.numpy() < 0)).all() for s in hits)


def test_too_few_conversations_are_refused(folder):
    with pytest.raises(ConfigError, match="at least 5000"):
        DraftData(folder, drafter(CK), DraftSettings(held_out=5000), top=PLAN.top)


def test_the_worth_of_drafts_lies_between_nothing_and_everything(data):
    got = accepted(drafter(CK), data)
    shares = [got[f"right_{i}"] for i in range(1, SHAPE.block + 2)]
    assert all(0 <= low <= high <= 1 for high, low in itertools.pairwise(shares))
    assert got["chain"] == pytest.approx(1 + sum(shares))


class Drafted:
    """Three texts that go on as decoding drafts them: to the end, until a wrong guess, until the text was sampled."""

    held_out = ((0, 30),) * 3

    def __init__(self, module, anchor=12):
        rng, block = np.random.default_rng(5), SHAPE.block
        ids = np.concatenate([module.ids, others := np.setdiff1d(np.arange(104), module.ids)])
        tokens, taps = rng.integers(3, 104, (3, 30)), rng.normal(size=(3, 30, len(TAPS), SHAPE.width))
        best = np.zeros((3, 30, 1), np.int64)
        for text in range(3):
            made = EagerDrafter(module)
            before = taps[text, : anchor + 1].astype(np.float32)
            state, rows = made.read(before, tokens[text, 1 : anchor + 2], block)
            state = state[None]
            for offset in range(block + 1):
                drafted = tokens[text, anchor + 2 + offset] = int(made.top(state, 1)[0][0, 0])
                best[text, anchor + 1 + offset] = np.flatnonzero(ids == drafted)
                if offset < block:
                    state = made.advance(rows[offset : offset + 1], [drafted], state)
        best[1, anchor + 3] ^= 1
        tokens[2, anchor + 2] ^= 1
        self.batch = DraftBatch(
            tokens=torch.from_numpy(tokens),
            taps=torch.from_numpy(taps).float(),
            top_ids=torch.from_numpy(best),
            top_p=torch.ones(3, 30, 1),
            anchors=torch.full((3, 1), anchor),
            known=torch.zeros(3, 1, block, dtype=torch.bool),
            others=torch.from_numpy(others),
        )

    def collate(self, spans, rng):
        return self.batch


def test_the_worth_of_drafts_is_what_decoding_wins():
    """Also where ids are drafted because, or are not as long as, the context has met them."""
    for seed in range(6):
        module = drafter(CK, seed=seed)
        got = accepted(module, Drafted(module))
        assert [got[f"right_{i + 1}"] for i in range(SHAPE.block + 1)] == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3])


def test_a_drafter_learns_from_answers_and_resumes_to_the_bit(data, tmp_path):
    """Greedy answers of a random network run into circles, which even a few steps begin to learn."""
    optim = Orthogonal(lr=0.02, shape=Constant(warmup=0.0))
    made = {name: drafter(CK) for name in ("whole", "cut", "resumed")}
    for name, steps in (("whole", 30), ("cut", 11), ("resumed", 30)):
        task = Task(made[name], DraftLoss(), data)
        folder = tmp_path / ("whole" if name == "whole" else "cut")
        run(task, Train(steps=steps, log_every=1, optim=optim), folder, resume=name == "resumed")
    for one, two in zip(made["whole"].parameters(), made["resumed"].parameters(), strict=True):
        assert torch.equal(one, two)
    records = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if record["kind"] == "train"]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
