"""Paths between texts of different lengths: which columns may change, and where tokens may be inserted."""

import torch

from mezzotint.batch import Batch
from mezzotint.families.edit_flow import EditFlow
from mezzotint.families.flexmdm import FlexMDM
from mezzotint.objectives.variable_length import anchor
from mezzotint.rng import Rng

BLANK = 5


def test_nothing_enters_a_prompt_and_texts_may_grow_behind_their_last_token():
    clean = torch.tensor([[0, 1, 2, 3, BLANK]])
    noisy = torch.tensor([[0, 1, BLANK, 3, BLANK]])
    given = torch.tensor([[True, True, False, False, True]])  # a batch's blanks are no target
    path = anchor(noisy, clean, given, BLANK)
    assert path.gaps.tolist() == [[False, False, True, False, True, False]]
    assert path.editable.tolist() == [[False, False, False, False, True, False]]
    assert path.left.tolist() == [[0, 1, 2, 2, 4, 4]]


def test_prompts_are_never_noised():
    tokens = torch.randint(0, 4, (200, 6), generator=torch.Generator().manual_seed(0))
    target = torch.zeros(200, 6, dtype=torch.bool)
    target[:, 3:] = True
    for settings in (EditFlow(), FlexMDM(), EditFlow(random=3), EditFlow(random=3, alignment="apart")):
        family = settings.build(BLANK, 4)
        seen = []

        def network(inputs, t, seen=seen, settings=settings):
            seen.append(inputs.x)
            return torch.zeros(*inputs.x.shape, 3 + 2 * BLANK if isinstance(settings, EditFlow) else BLANK + 1)

        loss = family.objective(network, Batch(tokens, target), Rng(1))
        assert torch.equal(seen[0][:, 1:4], tokens[:, :3])
        assert int(loss.count) == 600
        assert torch.isfinite(loss.total)
        assert not loss.per_token[:, :3].any()
        assert (seen[0][:, 4:] != torch.nn.functional.pad(tokens[:, 3:], (0, seen[0].shape[1] - 7), value=BLANK)).any()
