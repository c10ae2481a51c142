"""WeDLM's block decoding: tokens and positions in the order in which they are read, before every pass.

The published loop reads everything in every pass; decided columns at the beginning may be kept, and are in the second
test, with the same text.  Its temperature changes confidences only.
"""

import pytest
import torch
from generations import cases_of, greedy, opened

from mezzotint.decode.caches.policies import Sorted
from mezzotint.decode.plan import Blocks
from mezzotint.decode.propose import likeliest
from mezzotint.decode.rule import Unmask
from mezzotint.decode.run import Run
from mezzotint.decode.select import Above, Top
from mezzotint.decode.shapers import Temperature


def ran(model, prompt, case, policy):
    select = Above(case["confidence_threshold"]) if case.get("confidence_threshold") else Top(1)
    shapers = (Temperature(case["temperature"]),) if case.get("temperature") else ()
    plan = Blocks(case["block_size"])
    return Run(
        model, [prompt], case["max_new_tokens"], greedy(Unmask(likeliest, select, shapers=shapers), plan, policy)
    )


@pytest.mark.golden("wedlm")
def test_every_pass_reads_the_same_columns_in_the_same_order(golden):
    model, checked = opened(golden), set()
    for name, case in cases_of(golden).items():
        for i, prompt in enumerate(golden["in.prompts"].tolist()):
            run = ran(model, prompt, case, Sorted(keep=False))
            tokens, places, inner, wide = [], [], model.network.hidden, golden[f"{name}.inputs.{i}"].shape[1]

            def hidden(inputs, t, tokens=tokens, places=places, inner=inner, wide=wide):
                more = wide - inputs.x.shape[1]
                tokens.append(torch.nn.functional.pad(inputs.x[0], (0, more), value=-1))
                places.append(torch.nn.functional.pad(inputs.positions[0], (0, more), value=-1))
                return inner(inputs, t)

            run.reader.network = type(
                "Watched",
                (),
                {
                    "hidden": staticmethod(hidden),
                    "head": model.network.head,
                    "memory": model.network.memory,
                    "lookback": 0,
                },
            )
            for _ in run:
                pass
            golden.check(f"{name}.inputs.{i}", torch.stack(tokens))
            golden.check(f"{name}.positions.{i}", torch.stack(places))
            golden.check(f"{name}.nfe.{i}", torch.tensor([len(run.reader.passes)]))
            golden.check(f"{name}.tokens.{i}", run.canvas.tokens[0])
            checked |= {f"{name}.{field}.{i}" for field in ("inputs", "positions", "nfe", "tokens")}
    assert checked == set(golden.names(r"generate\..*"))


@pytest.mark.golden("wedlm")
def test_keeping_the_beginning_writes_the_same(golden):
    model = opened(golden)
    for name, case in cases_of(golden).items():
        for i, prompt in enumerate(golden["in.prompts"].tolist()):
            run = ran(model, prompt, case, Sorted())
            for _ in run:
                pass
            golden.check(f"{name}.tokens.{i}", run.canvas.tokens[0])
            assert len(run.reader.passes) == int(golden[f"{name}.nfe.{i}"])
            assert max(run.reader.passes[1:]) < len(prompt) + case["block_size"]
