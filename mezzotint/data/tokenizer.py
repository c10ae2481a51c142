"""Text to token ids and back, with control tokens that text can never forge."""

from collections.abc import Iterable, Sequence

import tokenizers

from mezzotint.checkpoints import TokenizerSpec
from mezzotint.data.chat import ChatTemplate, Message
from mezzotint.errors import CheckpointError, RequestError, VocabularyError

REPLACEMENT = "\ufffd"
"""What decoding makes of bytes that are no whole UTF-8 character."""


class Tokenizer:
    """A vocabulary with its chat format.

    Text is always text: a control token's name inside a string becomes several ordinary tokens.  Control ids come from
    the chat template, or from `special` by name.
    """

    letters = False
    """Whether every token is one character."""

    def __init__(self, spec: TokenizerSpec) -> None:
        """Raises CheckpointError if the document is no tokenizer."""
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(spec.json)
        except Exception as error:  # the binding raises bare Exception
            raise CheckpointError(
                f"the checkpoint's tokenizer cannot be read ({error}): fetch its files again"
            ) from error
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.special: dict[str, int] = dict(spec.special)
        self.eos_ids: tuple[int, ...] = spec.eos_ids
        self._template = ChatTemplate(spec.chat_template, self.special, spec.bos, self._text_of(spec.eos_ids[:1]))

    @classmethod
    def from_spec(cls, spec: TokenizerSpec) -> "Tokenizer":
        """The tokenizer of an opened checkpoint."""
        return cls(spec)

    @property
    def vocab_size(self) -> int:
        """Number of tokens that have a text; a network's embedding may have more rows."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def has_chat(self) -> bool:
        """Whether the checkpoint brought a chat template."""
        return bool(self._template.source)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, nothing added; bytes the vocabulary has no token for are dropped.

        Raises:
            RequestError: the text holds lone surrogates, as undecodable input bytes become.
        """
        try:
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        except (TypeError, UnicodeEncodeError) as error:
            raise RequestError("the text is not valid Unicode: send UTF-8") from error

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; control tokens, and ids without a token, have none."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def token(self, index: int) -> str:
        """A token as the vocabulary spells it, for displays and messages.

        Raises:
            VocabularyError: no token has this id.
        """
        text = self._tokenizer.id_to_token(index)
        if text is None:
            raise VocabularyError(f"there is no token {index}: the vocabulary has {self.vocab_size}")
        return text

    def chat(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        """Ids of a conversation in the model's chat format.

        Args:
            messages: {"role": "user" | "assistant" | "system" | ..., "content": str}, oldest first.
            add_generation_prompt: whether to end with the header of the assistant's next message.

        Raises:
            RequestError: no messages, a malformed one, one the template refuses, or a model without a template.
        """
        ids: list[int] = []
        for segment in self._template.segments(messages, add_generation_prompt):
            ids += [segment] if isinstance(segment, int) else self.encode(segment)
        return ids

    def stream(self) -> "TextStream":
        """A decoder for ids that arrive a few at a time."""
        return TextStream(self)

    def _text_of(self, ids: Iterable[int]) -> str:
        return "".join(self._tokenizer.id_to_token(index) or "" for index in ids)


class TextStream:
    """Decodes ids as they arrive; the pieces joined are the text of all ids, and none ends inside a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._context: list[
            int
        ] = []  # ids of the last piece: some decoders treat the first token of a text differently
        self._waiting: list[int] = []

    def push(self, ids: int | Iterable[int]) -> str:
        """The text these ids complete; empty while the last character is unfinished."""
        self._waiting += [ids] if isinstance(ids, int) else ids
        text = self._new()
        # a token that ends inside a character decodes to replacement characters until the rest has come
        return "" if not text or text.endswith(REPLACEMENT) else self._emit(text)

    def flush(self) -> str:
        """What is left, unfinished characters as U+FFFD; call it once at the end."""
        return self._emit(self._new())

    def _new(self) -> str:
        before = self._tokenizer.decode(self._context)
        return self._tokenizer.decode(self._context + self._waiting)[len(before) :]

    def _emit(self, text: str) -> str:
        self._context, self._waiting = self._waiting, []
        return text
