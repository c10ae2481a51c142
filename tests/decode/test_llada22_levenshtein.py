"""Blocks that grow and shrink inside: what rebuilding them may do, and the published loop written out."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tiny_reader import MASK, VOCAB, model

from mezzotint.decode.canvas import rebuilt
from mezzotint.decode.methods.llada22_levenshtein import LevenshteinEditing
from mezzotint.errors import ConfigError
from mezzotint.layouts import Attend, Inputs
from mezzotint.masks import block_causal

DELETE, INSERT, BLOCK = 20, 21, 6
PROMPTS = [[1, 2, 3, 4, 6, 7, 8], [9, 10]]


def net(seed=3, eager=1.0, stop=()):
    made = replace(model(block=BLOCK, seed=seed, stop=stop), edit_ids=(DELETE, INSERT))
    with torch.no_grad():
        made.network.head.weight[[DELETE, INSERT]] *= eager
    return made


def run(how, made, length, prompts=PROMPTS, seeds=None):
    edited = how.begin(made, prompts, length, seeds)
    frames = list(edited)
    return frames, edited.result()


def test_17_rebuilding_keeps_deletes_inserts_and_cuts():
    one = torch.ones(1, 5, dtype=torch.long)
    assert rebuilt(one, 5).tolist() == [[0, 1, 2, 3, 4]]
    assert rebuilt(0 * one, 5).tolist() == [[-1] * 5]
    assert rebuilt(2 * one, 5).tolist() == [[-1, 0, -1, 1, -1]]
    assert rebuilt(torch.tensor([[1, 1, 0, 2, 1]]), 5).tolist() == [[0, 1, -1, 3, 4]]


def transcribed(how, made, prompt, length):
    """One text in lists, everything read anew; its tokens and the passes."""
    text = [*prompt, *[MASK] * (length + -(len(prompt) + length) % BLOCK)]
    passes = 0
    for start in range(0, len(text), BLOCK):
        given = max(0, min(BLOCK, len(prompt) - start))
        if given == BLOCK:
            continue
        block, new, seen = text[start : start + BLOCK], [False] * BLOCK, []
        for k in range(BLOCK + how.posts + 1):
            n = start + BLOCK
            inputs = Inputs(
                torch.tensor([[*text[:start], *block]]), torch.arange(n)[None], Attend(n, n, block_causal(BLOCK))
            )
            raw, passes = made.network.head(made.network.hidden(inputs, None))[0, start:], passes + 1
            raw[:, MASK] = -torch.inf
            if k == BLOCK + how.posts:
                raw[:, [DELETE, INSERT]] = -torch.inf
                block = [int(raw[i].argmax()) if block[i] == MASK else block[i] for i in range(BLOCK)]
                break
            chance, choice = (x.tolist() for x in raw.softmax(-1).max(-1))
            masks = sorted((i for i in range(BLOCK) if block[i] == MASK), key=lambda i: -chance[i])
            need = 1 + sum(new[i] for i in masks)
            changes = {i for at, i in enumerate(masks) if at < need or chance[i] > how.tau}
            changes |= {i for i in range(given, BLOCK) if block[i] not in (MASK, choice[i]) and chance[i] > how.edit}
            if not changes:
                break
            earlier = [written for state, written in seen if state == block]
            if earlier:
                worst = min(sorted(changes), key=lambda i: chance[i])
                tried = {written[worst] for written in earlier if worst in written}
                raw[worst, list(tried)] = -torch.inf
                choice[worst] = int(raw[worst].argmax())
            seen.append((list(block), {i: choice[i] for i in changes}))
            after = []
            for i in range(BLOCK):
                if i not in changes:
                    after.append((block[i], new[i]))
                elif choice[i] == INSERT:
                    after += [(MASK, True), (block[i], new[i])]
                elif choice[i] != DELETE:
                    after.append((choice[i], False))
            after = (after + [(MASK, True)] * BLOCK)[:BLOCK]
            block, new = [token for token, _ in after], [mark for _, mark in after]
        text[start : start + BLOCK] = block
    return text, passes


@pytest.mark.parametrize("eager", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("how", [LevenshteinEditing(), LevenshteinEditing(tau=0.9, edit=0.6, posts=2)])
@pytest.mark.parametrize("seed", [1, 3])
def test_it_writes_what_the_published_loop_writes(how, seed, eager):
    made = net(seed, eager)
    for prompt in PROMPTS:
        text, passes = transcribed(how, made, prompt, 13)
        _, ours = run(how, made, 13, [prompt])
        assert ours.canvas.tokens[0].tolist() == text
        assert ours.passes == passes
        assert text[: len(prompt)] == prompt


def test_edits_do_happen_and_no_block_is_left_with_a_hole():
    frames, made = run(LevenshteinEditing(), net(1, 1.5), 24)
    assert any(int(b.open.sum()) > int(a.open.sum()) for a, b in pairwise(frames))
    assert not made.canvas.open.any()
    assert not {token for text in made.texts for token in text} & {MASK, DELETE, INSERT}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_do_not_wait_for_each_other(temperature):
    how, made = LevenshteinEditing(temperature=temperature), net(stop=(5,))
    together = run(how, made, 13, seeds=[4, 5])[1]
    assert together.texts == [
        run(how, made, 13, [prompt], [seed])[1].texts[0] for prompt, seed in zip(PROMPTS, (4, 5), strict=True)
    ]


def test_networks_that_do_not_edit_are_refused():
    with pytest.raises(ConfigError, match="only networks of blocks"):
        LevenshteinEditing().begin(model(), PROMPTS, 4)
    with pytest.raises(ConfigError, match="delete_token_id"):
        LevenshteinEditing().begin(model(block=4), PROMPTS, 4)
    assert VOCAB > INSERT
