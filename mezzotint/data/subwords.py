"""Text as byte-level BPE tokens of a vocabulary of our own (1508.07909; bytes as in GPT-2)."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

END = "<|end|>"
"""Stands between documents."""


@dataclass(frozen=True)
class Subwords:
    """Ids of a trained tokenizer, and [MASK] behind them."""

    definition: str
    """The tokenizer's own JSON."""

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
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.definition)

    @property
    def mask_id(self) -> int:
        return self.tokenizer.get_vocab_size()

    @property
    def vocab(self) -> int:
        """Number of ids, [MASK] included."""
        return self.mask_id + 1

    def encode(self, text: str) -> np.ndarray:
        """Int64 ids; every byte has one, so nothing is unknown."""
        return np.array(self.tokenizer.encode(text).ids, dtype=np.int64)

    def decode(self, ids: list[int]) -> str:
        """The text of ids; undecided columns show as an underscore."""
        parts: list[str] = []
        run: list[int] = []
        for token in [*ids, self.mask_id]:
            if token < self.mask_id:
                run.append(token)
                continue
            parts.append(self.tokenizer.decode(run, skip_special_tokens=False))
            run = []
        return "_".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a file beside the weights."""
        return {"kind": "subwords", "definition": self.definition}
