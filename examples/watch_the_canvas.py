"""Watch text come out of noise: the canvas after every event of a block-diffusion answer.

python examples/watch_the_canvas.py "Name three birds." 48
"""

import sys

import mezzotint
from mezzotint.engine.events import Finished, Reopened, Settled, Wrote


def main(prompt: str = "Name three birds.", tokens: str = "48") -> None:
    """Print the unfinished end of the canvas, one line per event; "░" is noise, what is left of "|" is final."""
    model = mezzotint.load()
    final: list[int] = []
    draft: dict[int, int] = {}  # column -> token that may still change
    for event in model.stream(prompt, mode="diffusion", max_new_tokens=int(tokens)):
        if isinstance(event, Wrote):
            draft |= dict(zip(event.columns, event.tokens, strict=True))
            open_ones = range(len(final), event.width)
            shown = [model.tokenizer.decode([draft[at]]) if at in draft else "░" for at in open_ones]
            print((model.tokenizer.decode(final[-8:]) + "|" + "".join(shown)).replace("\n", " "))
        elif isinstance(event, Reopened):
            for column in event.columns:
                draft.pop(column, None)
        elif isinstance(event, Settled):
            final += event.tokens
            draft = {column: token for column, token in draft.items() if column >= len(final)}
        elif isinstance(event, Finished):
            print("\n" + model.tokenizer.decode(final))
            print(f"{event.tokens} tokens in {event.forwards} passes: {event.reason}")


if __name__ == "__main__":
    main(*sys.argv[1:])
