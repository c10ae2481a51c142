"""Networks for texts that change their length: heads on a trunk that sees only the columns that hold something.

A blank column is invisible and takes no position; the first column, the anchor, is always seen.  The trunk is any
network with `hidden(inputs, t)` and a vocabulary one larger than the text's, as the anchor is read as the blank id.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mezzotint.layouts import Attend, Inputs


class EditHeads(nn.Module):
    """Inputs -> Float[B, N, 3 + 2V]: insertion, deletion and substitution rate, then logits of both new tokens.

    Rates are before their softplus (Edit Flows, 2506.09018, sec. 3).
    """

    lookback = 0

    def __init__(self, trunk: Any, width: int, vocab: int) -> None:
        """`width` is that of the trunk's hidden vectors; `vocab` counts the ids without the blank."""
        super().__init__()
        self.trunk, self.blank = trunk, vocab
        self.rates = _head(width, 3)
        self.inserted, self.replaced = _head(width, vocab), _head(width, vocab)

    def forward(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        h = self.trunk.hidden(compact(inputs, self.blank), t)
        return torch.cat([self.rates(h), self.inserted(h), self.replaced(h)], -1)


class GapHeads(nn.Module):
    """Inputs -> Float[B, N, V + 1]: logits of the token, and how many are missing right of it, before its softplus.

    FlexMDM (2509.01025, sec. 4).
    """

    lookback = 0

    def __init__(self, trunk: Any, width: int, vocab: int) -> None:
        """`width` is that of the trunk's hidden vectors; `vocab` counts the ids without the blank."""
        super().__init__()
        self.trunk, self.blank = trunk, vocab
        self.tokens, self.missing = _head(width, vocab), _head(width, 1)

    def forward(self, inputs: Inputs, t: Tensor | None = None) -> Tensor:
        h = self.trunk.hidden(compact(inputs, self.blank), t)
        return torch.cat([self.tokens(h), self.missing(h)], -1)


def compact(inputs: Inputs, blank: int) -> Inputs:
    """The same columns, blank ones unseen and without a position: the text as if it were written without gaps."""
    columns = inputs.x.shape[1]
    present = (inputs.x != blank) | (torch.arange(columns, device=inputs.x.device) == 0)
    positions = (present.long().cumsum(-1) - 1).clamp_min(0)
    return Inputs(inputs.x, positions, Attend(columns, columns, inputs.attend.mask, present))


def _head(width: int, out: int) -> nn.Linear:
    head = nn.Linear(width, out)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head
