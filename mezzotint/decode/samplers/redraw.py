"""The canvas after a window has been drawn anew, for samplers that draw every column at once."""

import torch
from torch import Tensor

from mezzotint.decode.canvas import Canvas, Step


def noisy(canvas: Canvas, step: Step, mask_id: int) -> Tensor:
    """Long[B, W]: the window's tokens, [MASK] where it is open."""
    columns = step.window.columns()
    return canvas.tokens.gather(-1, columns).masked_fill(canvas.open.gather(-1, columns), mask_id)


def drawn(canvas: Canvas, step: Step, x_s: Tensor, mask_id: int, p0: Tensor) -> Canvas:
    """The canvas with Long[B, W] `x_s` in the window, open where that is [MASK]; given columns stay.

    A column that becomes decided is scored by its probability in `p0`, Float[B, W, V].
    """
    columns = step.window.columns()
    held, known, given = (x.gather(-1, columns) for x in (canvas.tokens, canvas.score, canvas.fixed))
    now = torch.where(given, held, x_s)
    open = (now == mask_id) & ~given
    written = canvas.open.gather(-1, columns) & ~open
    score = torch.where(written, p0.gather(-1, now[..., None])[..., 0].to(known.dtype), known)
    born = torch.where(written, canvas.step[:, None], canvas.born.gather(-1, columns))
    return Canvas(
        tokens=canvas.tokens.scatter(-1, columns, now),
        open=canvas.open.scatter(-1, columns, open),
        fixed=canvas.fixed,
        score=canvas.score.scatter(-1, columns, score),
        born=canvas.born.scatter(-1, columns, born),
        step=canvas.step + 1,
        seed=canvas.seed,
        latent=canvas.latent,
    )
