"""Answers of their own length: the published loop written out row by row, and what must hold of any such loop."""

import pytest
import torch
from tiny_reader import MASK, STOP, VOCAB, Told, model

from mezzotint.decode.methods.choices import Threshold
from mezzotint.decode.methods.daedal import Daedal, ending
from mezzotint.decode.methods.presets import Preset, decoding
from mezzotint.decode.run import MaskedModel, generate
from mezzotint.errors import CanvasError, ConfigError
from mezzotint.layouts import Attend, Inputs

PROMPTS = [[1, 2, 3, 4, 6, 7, 8], [9, 10], [11]]
SMALL = Daedal(first=8, grow=4, looked=6, tail=3, block=5, tau=0.5, enough=0.5, surely=0.9, doubt=0.2)


def run(how, net, prompts, length, seeds=None):
    made = how.begin(net, prompts, length, seeds)
    frames = list(made)
    return frames, made.result()


def looked_up(net, tokens):
    """Float[L, V]: what the network says of one row."""
    columns = len(tokens)
    inputs = Inputs(torch.tensor([tokens]), torch.arange(columns)[None], Attend(columns, columns))
    return net.network.head(net.network.hidden(inputs, None))[0]


def confidence(raw, how):
    sure, hits = 0.0, 0
    for row in reversed(raw.softmax(-1)):
        if int(row.argmax()) == STOP and hits < how.looked:
            sure, hits = sure + float(row.max()), hits + 1
    return sure / how.looked


def transcribed(how, net, prompt, most):
    """The published loop for one row in lists, without stopping early."""
    answer, start = [MASK] * min(how.first, most), len(prompt)
    while confidence(looked_up(net, prompt + answer)[start:], how) < how.enough and len(answer) < most:
        answer += [MASK] * min(how.grow, most - len(answer))
    answer += [STOP] * min(how.tail, most - len(answer))
    undecided, at = [token == MASK for token in answer], 0
    while any(undecided):
        while not any(undecided[at : at + how.block]):
            at += how.block
        raw = looked_up(net, [*prompt, *answer])[start:]
        chance, choice = raw.softmax(-1).max(-1)
        open = [i for i in range(at, min(at + how.block, len(answer))) if undecided[i]]
        fill = {i: int(choice[i]) for i in open if chance[i] > how.tau and choice[i] != MASK}
        if not fill:
            real = [i for i in open if choice[i] != MASK]
            if not real:
                raw2 = raw.clone()
                raw2[:, MASK] = -torch.inf
                chance2, choice2 = raw2.softmax(-1).max(-1)
                best = max(open, key=lambda i: float(chance2[i]))
                fill = {best: int(choice2[best])}
            else:
                best = max(real, key=lambda i: float(chance[i]))
                fill = {best: int(choice[best])}
        for i, token in fill.items():
            answer[i], undecided[i] = token, False
        doubtful = [i for i in open if i not in fill and chance[i] < how.doubt]
        if confidence(raw, how) < how.surely and len(answer) < most and doubtful:
            worst = min(doubtful, key=lambda i: float(chance[i]))
            more = min(how.grow - 1, most - len(answer))
            answer[worst:worst], undecided[worst:worst] = [MASK] * more, [True] * more
    return answer


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [6, 30])
def test_it_writes_what_the_published_loop_writes(seed, most):
    net = model(seed=seed)
    net.network.head.weight[STOP] *= 1.5
    for prompt in PROMPTS[:2]:
        expected = transcribed(SMALL, net, prompt, most)
        _, made = run(SMALL, net, [prompt], most)
        end = expected.index(STOP) if STOP in expected else len(expected)
        assert made.texts[0] == expected[:end]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_grow_by_themselves(temperature):
    net, how = model(seed=1), Daedal(**{**vars(SMALL), "temperature": temperature})
    _, together = run(how, net, PROMPTS, 24, [3, 4, 5])
    alone = [run(how, net, [prompt], 24, [seed])[1].texts[0] for prompt, seed in zip(PROMPTS, (3, 4, 5), strict=True)]
    assert together.texts == alone
    if temperature:
        assert together.texts != run(how, net, PROMPTS, 24, [6, 7, 8])[1].texts


def test_the_canvas_grows_until_the_end_is_sure():
    # ends are certain from the 100th column of the answer on: 64 + 8 j columns, at least 16 of them behind the 100th
    table = torch.full((300, VOCAB), 0.0)
    table[:, 7] = 30.0
    table[103:, STOP] = 60.0
    net = MaskedModel(Told(table), MASK, VOCAB, (STOP,))
    frames, made = run(Daedal(), net, [[1, 2, 3]], 200)
    widths = [int(frame.open.sum()) for frame in frames]
    assert widths[:7] == [72, 80, 88, 96, 104, 112, 120]
    assert made.canvas.tokens.shape[1] == 3 + 120 + 16
    assert made.texts == [[7] * 100]


def test_what_cannot_be_filled_grows_up_to_the_limit():
    table = torch.zeros(300, VOCAB)
    table[:, MASK] = -30.0
    net = MaskedModel(Told(table), MASK, VOCAB, (STOP,))
    how = Daedal(first=8, grow=8, enough=0.0, tail=0, block=8)
    frames, made = run(how, net, [[1]], 40)
    lengths = [frame.tokens.shape[1] - 1 for frame in frames]
    assert lengths[:6] == [8, 15, 22, 29, 36, 40]
    assert max(lengths) == 40
    assert len(made.texts[0]) == 40


def test_without_doubt_it_is_threshold_decoding():
    net = model(seed=2)
    with torch.no_grad():
        net.network.head.weight[MASK] = 0.0  # so that the mask is never the first choice
    how = Daedal(first=12, enough=0.0, tail=0, block=4, tau=0.4, doubt=0.0)
    threshold = Preset(choose=Threshold(tau=0.4), block=4)
    expected = generate(net, PROMPTS[:1], 12, decoding(threshold, net, 12))
    _, made = run(how, net, PROMPTS[:1], 40)
    assert made.texts == expected.texts


def test_only_the_last_end_tokens_count():
    raw = torch.full((1, 6, VOCAB), -20.0)
    raw[0, :, 3] = 0.0
    raw[0, [0, 2, 5], STOP] = 20.0
    valid = torch.tensor([[True] * 5 + [False]])
    torch.testing.assert_close(ending(raw, valid, (STOP,), 4), torch.tensor([0.5]))
    torch.testing.assert_close(ending(raw, valid, (STOP,), 1), torch.tensor([1.0]))


def test_models_it_cannot_help_are_refused():
    with pytest.raises(ConfigError, match="blocks"):
        Daedal().begin(model(block=4), [[1]], 8)
    with pytest.raises(ConfigError, match="no end token"):
        Daedal().begin(model(stop=()), [[1]], 8)
    with pytest.raises(CanvasError, match="holes before it"):
        Daedal().begin(model(), [[1, None, 2]], 8)
