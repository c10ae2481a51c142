"""Text as tokens: byte-level BPE of a vocabulary of our own (1508.07909; bytes as in GPT-2), or a published one."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mezzotint.errors import VocabularyError

END = "<|end|>"
"""Stands between documents."""


@dataclass(frozen=True)
class Subwords:
    """Ids of a trained tokenizer, and [MASK] behind them, unless it has one."""

    definition: str
    """The tokenizer's own JSON."""
    mask: str = ""
    """The tokenizer's own [MASK], if it has one."""

    @classmethod
    def published(cls, path: Path, mask: str = "[MASK]") -> "Subwords":
        """The tokenizer in a file, which neither cuts nor fills texts here.

        Raises:
            VocabularyError: no such file, another format, or no token called `mask`.
        """
        from tokenizers import Tokenizer

        try:
            # the package raises a bare Exception for whatever is wrong with the file
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            raise VocabularyError(f"cannot read the tokenizer {path}: {error}") from None
        if tokenizer.token_to_id(mask) is None:
            raise VocabularyError(f"cannot mask with the tokenizer {path}: it has no token {mask}")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer.to_str(), mask)

    @classmethod
    def of(cls, texts: Iterable[str], vocab: int) -> "Subwords":
        """Train `vocab` tokens, the end of a document among them; the same texts give the same tokens."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
        tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    @cached_property
    def tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer` of the definition."""
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.definition)

    @property
    def mask_id(self) -> int:
        """The id of [MASK]: the tokenizer's own, or one behind all others."""
        return self.tokenizer.token_to_id(self.mask) if self.mask else self.tokenizer.get_vocab_size()

    @property
    def vocab(self) -> int:
        """Number of ids, [MASK] included."""
        return self.tokenizer.get_vocab_size() + (not self.mask)

    def encode(self, text: str) -> np.ndarray:
        """Int64 ids; every byte has one, so nothing is unknown to a vocabulary of our own."""
        return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)

    def decode(self, ids: list[int]) -> str:
        """The text of ids; undecided columns show as an underscore."""
        parts: list[str] = []
        run: list[int] = []
        known, mask_id = self.vocab - (not self.mask), self.mask_id
        for token in [*ids, mask_id]:
            if token < known and token != mask_id:
                run.append(token)
                continue
            parts.append(self.tokenizer.decode(run, skip_special_tokens=False))
            run = []
        return "_".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a file beside the weights."""
        return {"kind": "subwords", "definition": self.definition} | ({"mask": self.mask} if self.mask else {})
