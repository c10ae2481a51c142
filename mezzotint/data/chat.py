"""Chat templates, rendered so that what people write can never become a control token.

The template's output is cut at control tokens, which only the template may write.  Before rendering, every control
token spelled in a message is broken by a character that occurs nowhere else; afterwards that character is removed from
the text between the template's own control tokens.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from mezzotint.errors import CheckpointError, RequestError

Message = Mapping[str, Any]

NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]
"""Code points Unicode reserves for internal use; one that a conversation does not contain serves as the break."""


class ChatTemplate:
    """A Jinja template and the control tokens it may write."""

    def __init__(self, source: str, special: Mapping[str, int], bos: str, eos: str) -> None:
        self.source = source
        # a token of one character could not be told from text, so it is text
        self._special = {text: index for text, index in special.items() if len(text) > 1}
        self._tokens = {"bos_token": bos, "eos_token": eos}
        longest_first = sorted(self._special, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        heads = {text[:size] for text in self._special for size in range(1, len(text))}
        # a message that ends with the head of a control token could be completed by what the template puts behind it
        self._head = re.compile(
            f"(?:{'|'.join(map(re.escape, sorted(heads, key=len, reverse=True))) or '(?!)'})(?=\\s*$)"
        )

    def segments(self, messages: Sequence[Message], add_generation_prompt: bool) -> Iterator[int | str]:
        """The rendered conversation as control ids and pieces of plain text.

        Raises:
            RequestError: no messages, a malformed one, one the template refuses, or no template at all.
        """
        if not self.source:
            raise RequestError("this model has no chat template: send a plain prompt instead of messages")
        _check(messages)
        mark = _unused(messages)
        guarded = [{key: self._guard(value, mark) for key, value in message.items()} for message in messages]
        text = self._render(guarded, add_generation_prompt, mark)
        at = 0
        for match in self._control.finditer(text):
            if match.start() > at:
                yield text[at : match.start()].replace(mark, "")
            yield self._special[match.group()]
            at = match.end()
        if at < len(text):
            yield text[at:].replace(mark, "")

    def _guard(self, value: Any, mark: str) -> Any:
        if isinstance(value, str):

            def broken(match: re.Match[str]) -> str:
                return match.group()[0] + mark + match.group()[1:]

            while self._control.search(value):  # again: breaking one token may leave another that began inside it
                value = self._control.sub(broken, value)
            return self._head.sub(lambda match: match.group()[0] + mark + match.group()[1:], value)
        if isinstance(value, Mapping):
            return {key: self._guard(item, mark) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._guard(item, mark) for item in value]
        return value

    def _render(self, messages: list[dict[str, Any]], add_generation_prompt: bool, mark: str) -> str:
        import jinja2

        try:
            return self._compiled.render(messages=messages, add_generation_prompt=add_generation_prompt, **self._tokens)
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            reason = str(error).replace(mark, "")
            raise RequestError(
                f"the model's chat template refuses these messages ({reason}): check roles and order"
            ) from error

    @cached_property
    def _compiled(self) -> Any:
        """The template in a sandbox: it comes from a downloaded file."""
        import jinja2
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _tojson
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
        try:
            # templates mark the assistant's words for trainers; rendering has no use for the marks
            return environment.from_string(re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", self.source))
        except jinja2.TemplateError as error:
            raise CheckpointError(f"the model's chat template is damaged ({error}): fetch its files again") from error


def _check(messages: Sequence[Message]) -> None:
    if isinstance(messages, str | Mapping) or not messages:
        raise RequestError("a conversation needs at least one message: send a list of {'role': ..., 'content': ...}")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise RequestError(f"message {index} is not an object: send {{'role': ..., 'content': ...}}")
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                raise RequestError(f"message {index} needs a {key} that is a string")


def _unused(messages: Sequence[Message]) -> str:
    """A noncharacter that occurs nowhere in the messages."""
    written = json.dumps([dict(message) for message in messages], ensure_ascii=False, default=str)
    for mark in NONCHARACTERS:
        if mark not in written:
            return mark
    raise RequestError("the conversation uses all of Unicode's noncharacters: remove some of U+FDD0 to U+FDEF")


def _tojson(value: Any, indent: int | None = None, ensure_ascii: bool = False, **options: Any) -> str:
    """Jinja's own filter escapes HTML, which no model was trained on."""
    return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii, **options)


def _refuse(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
