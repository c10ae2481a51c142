"""Events as the engine sends them, for a given text and a given order of writing."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mezzotint.engine.events import Event, Finished, Reopened, Settled, Started, Wrote
from mezzotint.engine.transcript import Transcript


def spoken(tokenizer, events: Iterator[Event]) -> Iterator[Event]:
    """The same events with the text that the engine puts into them."""
    transcript = Transcript(tokenizer.stream())
    for event in events:
        if isinstance(event, Settled):
            event = replace(event, text=transcript.push(event.tokens)[1])
        elif isinstance(event, Finished):
            event = replace(event, text=transcript.flush()[0])
        yield event


def diffusion(tokens: Sequence[int], seed: int, block: int = 8) -> Iterator[Event]:
    """Block by block, in any order, with tokens that are taken back and written again."""
    rng = random.Random(seed)
    yield Started(5, 0.1)
    for start in range(0, len(tokens), block):
        end = min(start + block, len(tokens))
        columns = list(range(start, end))
        rng.shuffle(columns)
        for column in columns:
            if rng.random() < 0.3:
                yield Wrote((column,), (rng.choice(tokens),), (rng.random(),), end)
                yield Reopened((column,))
            yield Wrote((column,), (tokens[column],), (rng.random(),), end)
        yield Settled(tuple(tokens[start:end]))
    yield Finished("length", len(tokens), 1.0, len(tokens), 0.1)


def verify(tokens: Sequence[int], seed: int, block: int = 4) -> Iterator[Event]:
    """Drafts that are partly wrong, settled a few at a time."""
    rng = random.Random(seed)
    yield Started(5, 0.1)
    at = 0
    while at < len(tokens):
        columns = tuple(range(at, min(at + block, len(tokens))))
        draft = tuple(tokens[c] if rng.random() < 0.7 else rng.choice(tokens) for c in columns)
        yield Wrote(columns, draft, tuple(rng.random() for _ in columns), columns[-1] + 1)
        taken = rng.randint(1, len(columns))
        yield Reopened(columns[taken:])
        yield Settled(tuple(tokens[at : at + taken]))
        at += taken
    yield Finished("stop", len(tokens), 2.0, len(tokens) // 2 + 1, 0.1)
