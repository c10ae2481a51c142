"""Prompts to columns: a chat, a text to continue, or a text with holes."""

import re
from collections.abc import Sequence
from typing import Any

from mezzotint.data.tokenizer import Tokenizer
from mezzotint.errors import ConfigError, RequestError
from mezzotint.models.options import Options

HOLE = re.compile(r" ?(_{3,})")
"""Tokens to be written, as many as underscores; the blank before them is theirs, since tokens carry it."""


def columns_of(tokenizer: Tokenizer, text: str) -> list[int | None]:
    """Ids of a text, and None for every token of its holes."""
    columns: list[int | None] = []
    for number, piece in enumerate(HOLE.split(text)):
        columns += [None] * len(piece) if number % 2 else tokenizer.encode(piece)
    return columns


def pieces_of(text: str) -> list[str]:
    """What stands before, between and behind the holes of a text."""
    return HOLE.split(text)[::2]


def no_holes(name: str) -> ConfigError:
    """What to say to a text without holes."""
    return ConfigError(f"the text has no hole for {name} to fill: write ___ where tokens are missing")


def ids_of(tokenizer: Tokenizer, prompt: str | Sequence[dict[str, Any]], options: Options, name: str) -> list[int]:
    """Ids of a prompt: in the model's chat format, or as it stands where it has none or `raw` is asked for.

    Raises:
        RequestError: an empty prompt, or messages that the chat format refuses.
        ConfigError: a chat or a system message for a model without a chat format.
    """
    if isinstance(prompt, str) and not prompt.strip():
        raise RequestError("the prompt is empty: give some text")
    if continues(tokenizer, options):
        if not isinstance(prompt, str) or options.system is not None:
            what = "a system message" if isinstance(prompt, str) else "a chat"
            why = "raw prompts have none" if options.raw else f"{name} has no chat template"
            raise ConfigError(f"{what} needs a chat format, and {why}: give a string, which is continued")
        return tokenizer.encode(prompt)
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if options.system is not None:
        messages = [{"role": "system", "content": options.system}, *messages]
    content = messages[-1].get("content")
    if isinstance(content, str) and not content.strip():
        raise RequestError("the prompt is empty: give some text")
    return tokenizer.chat(messages)


def continues(tokenizer: Tokenizer, options: Options) -> bool:
    """Whether a prompt is continued as it stands."""
    return options.raw or not tokenizer.has_chat
