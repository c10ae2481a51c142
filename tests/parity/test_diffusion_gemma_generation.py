"""DiffusionGemma's generation, step by step; sampled tokens and random canvases are replayed.

A row whose canvas is finished holds its answer in ours and its last canvas in the published loop, and a row that has
ended waits in ours: what such rows would read is not compared.  Logits that are fed back grow rounding errors, and the
stated tolerance holds the reference's own: ours are computed in 64 bits.
"""

from dataclasses import replace

import pytest
import torch

from mezzotint.decode.loop import decode
from mezzotint.decode.methods.diffusion_gemma import CanvasModel, CanvasReader, UniformCanvases, lay_out
from mezzotint.decode.propose import first_largest, probable
from mezzotint.decode.samplers.renoise import Canvases, Renoise
from mezzotint.decode.select import EntropyBound
from mezzotint.decode.stopping import Until, written
from mezzotint.denoisers.published.fill_weights import TensorForm
from mezzotint.denoisers.published.open import open_published


class Replay:
    """The recorded draws: canvases at the beginning of every block, then one and the tokens for every step."""

    def __init__(self, golden, name):
        self.remaining, self.step = golden[f"{name}.cur_step"].tolist(), 0
        self.canvases, self.sampled, self.next = golden[f"{name}.random_canvases"], golden[f"{name}.sampled"], 0

    def starts(self):
        """Long[blocks, B, W]: the canvas that every block begins with."""
        first = max(self.remaining)
        places = [k + sum(n == first for n in self.remaining[:k]) for k, n in enumerate(self.remaining) if n == first]
        return self.canvases[places]

    def noise(self, window, width):
        """Long[B, L]: the canvas of this step at the window's columns."""
        first = max(self.remaining)
        blocks = sum(n == first for n in self.remaining[: self.step + 1])
        drawn = self.canvases[self.step + blocks]
        return torch.zeros(len(drawn), width, dtype=torch.long).scatter(-1, window, drawn)


def arguments(golden, case):
    return UniformCanvases(
        canvas=golden.meta["canvas_length"],
        steps=case["max_denoising_steps"],
        bound=case["sampler_config"]["entropy_bound"],
        hottest=case["t_max"],
        coldest=case["t_min"],
        stable=case["stability_threshold"],
        calm=case["confidence_threshold"],
    )


@pytest.mark.golden("diffusion_gemma_one_expert")
@pytest.mark.golden("diffusion_gemma_moe")
@torch.no_grad()
def test_every_step_of_every_canvas(golden):
    published, checked = open_published(golden.folder, TensorForm(dtype=torch.float64)), set()
    for name, case in golden.meta["generate_cases"].items():
        how, replay = arguments(golden, case), Replay(golden, name)
        stop = (case["eos_token_id"],) if "eos_token_id" in case else published.stop_ids
        assert len(stop) == 1
        model = CanvasModel(published.network, published.vocab, stop, case["pad_token_id"])
        canvas, valid = lay_out(model, golden["in.input_ids"].tolist(), case["max_new_tokens"], how.canvas)
        first = golden["in.input_ids"].shape[1]
        canvas.tokens[:, first:] = torch.cat(list(replay.starts()), -1)
        reader, seen = CanvasReader(published.network, valid), []

        def step_of(raw, canvas, step, rng, how=how, replay=replay, seen=seen):
            columns, k = step.window.columns(), replay.step
            kept = []

            def select(score, open, budget):
                kept.append(EntropyBound(how.bound)(score, open, budget))
                return kept[0]

            def propose(logits, rng):
                return replay.sampled[k], probable(logits, replay.sampled[k])

            def prior(shape, device, rng):
                return replay.noise(columns, shape[1])

            rule = Renoise(prior, select, propose, how.hottest, how.coldest, how.stable, how.calm)
            after = rule(raw, canvas, step, rng)
            patient = rule(raw, canvas, replace(step, budget=torch.ones_like(step.budget)), rng)
            before_open, open = (x.open.gather(-1, columns).any(-1) for x in (canvas, after))
            live = before_open if step.live is None else before_open & step.live
            logits = after.notes[1]
            seen.append(
                {
                    "live": live,
                    "going": live & open,
                    "canvas_in": canvas.tokens.gather(-1, columns),
                    "canvas_out": after.tokens.gather(-1, columns),
                    "accepted": kept[0],
                    "argmax_canvas": first_largest(logits),
                    "cur_step": torch.tensor(how.steps - step.k),
                    "logits": logits,
                    "early": live & ~patient.open.gather(-1, columns).any(-1),
                }
            )
            replay.step += 1
            return after

        plan = Until(Canvases(how.canvas, how.steps), stop, settled=True)
        *_, last = decode(canvas, reader, step_of, plan)
        stacked = {field: torch.stack([each[field] for each in seen]) for field in seen[0]}
        golden.check(f"{name}.cur_step", stacked["cur_step"])
        assert reader.passes == [how.canvas] * len(golden[f"{name}.cur_step"])
        for field, where in (
            ("canvas_in", "live"),
            ("canvas_out", "going"),
            ("accepted", "live"),
            ("argmax_canvas", "live"),
        ):
            known = stacked[where][..., None]
            assert known.any()
            golden.check(f"{name}.{field}", torch.where(known, stacked[field], golden[f"{name}.{field}"]))
            checked.add(f"{name}.{field}")
        for field, at in (("first", 0), ("last", -1)):
            want = golden[f"{name}.processed_logits_{field}"]
            got = torch.where(stacked["live"][at][:, None, None], stacked["logits"][at], want)
            golden.check(f"{name}.processed_logits_{field}", got, rtol=1e-4, atol=2e-4 if at == 0 else 5e-3)
            checked.add(f"{name}.processed_logits_{field}")
        finished(golden, name, stacked)
        result(golden, name, case, first, last, stacked, stop)
        checked |= {f"{name}.{field}" for field in ("cur_step", "finished_before", "finished_after", "sequences")}
        checked |= {f"{name}.{field}" for field in ("tokens_per_forward", "sampled", "random_canvases")}
    assert checked == set(golden.names(r"gen_.*"))


def finished(golden, name, stacked):
    """Rows that were left early, from then to the end of their block; rows that have ended are the record's own."""
    after, block = [], None
    for early, left in zip(stacked["early"], stacked["cur_step"], strict=True):
        block = early if block is None or left == stacked["cur_step"].max() else block | early
        after.append(block)
    golden.check(f"{name}.finished_after", torch.stack(after))
    begin = stacked["cur_step"] == stacked["cur_step"].max()
    before = torch.stack([torch.zeros_like(after[0]), *after[:-1]]) & ~begin[:, None]
    golden.check(f"{name}.finished_before", before)


def result(golden, name, case, first, last, stacked, stop):
    texts = written(last, case["max_new_tokens"], stop)
    sequences, counts = [], []
    for row, text in enumerate(texts):
        ended = len(text) < case["max_new_tokens"]
        whole = [*text, *stop[:1]] if ended else text
        padding = [case["pad_token_id"]] * (case["max_new_tokens"] - len(whole))
        sequences.append([*golden["in.input_ids"][row].tolist(), *whole, *padding])
        counts.append(len(whole) / int(stacked["live"][:, row].sum()))
    golden.check(f"{name}.sequences", torch.tensor(sequences))
    golden.check(f"{name}.tokens_per_forward", torch.tensor(counts))
