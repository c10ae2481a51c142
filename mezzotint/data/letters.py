"""The alphabet of text8: 26 letters and the space (Mahoney 2006, the script that made enwik8 into text8)."""

import re

from mezzotint.data.characters import Characters

ALPHABET = Characters((" ", *"abcdefghijklmnopqrstuvwxyz"))
"""27 symbols, and [MASK]."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SPELLED = {str(digit): f" {name} " for digit, name in enumerate(DIGITS)}
_OTHERS = re.compile("[^a-z]+")


def letters(text: str) -> str:
    """The text in 27 symbols: lower case, digits spelled out, everything else one space."""
    spelled = "".join(_SPELLED.get(symbol, symbol) for symbol in text.lower())
    return _OTHERS.sub(" ", spelled).strip()
