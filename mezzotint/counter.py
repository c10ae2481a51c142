"""The hash behind `rng.py`, in Python integers and numpy, for code that must not wait for torch to load.

On 64-bit words with wrap-around, G = 0x9E3779B97F4A7C15:

    mix(z):  z ^= z >> 30;  z *= 0xBF58476D1CE4E5B9;  z ^= z >> 27;  z *= 0x94D049BB133111EB;  z ^= z >> 31
    h = mix(seed + G);  h = mix(h + step * G);  h = mix(h + column * G);  h = mix(h + token * G)
    uniform = ((h >> 12) + 0.5) * 2**-52          (float64, strictly inside (0, 1))

`mix` is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195).
"""

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
FIRST = 0xBF58476D1CE4E5B9
SECOND = 0x94D049BB133111EB
WORD = (1 << 64) - 1


def uniform(
    seed: np.ndarray | int, step: np.ndarray | int, column: np.ndarray | int, token: np.ndarray | int = 0
) -> np.ndarray:
    """Float64 in (0, 1) for keys that broadcast against each other; the bits of `rng.uniform`."""
    with np.errstate(over="ignore"):
        word = _mix(_word(seed) + np.uint64(GOLDEN))
        for key in (step, column, token):
            word = _mix(word + _word(key) * np.uint64(GOLDEN))
    return ((word >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def mix(z: int) -> int:
    """One word."""
    z &= WORD
    z = ((z ^ (z >> 30)) * FIRST) & WORD
    z = ((z ^ (z >> 27)) * SECOND) & WORD
    return z ^ (z >> 31)


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(SECOND)
    return z ^ (z >> np.uint64(31))


def _word(key: np.ndarray | int) -> np.ndarray:
    if isinstance(key, int):
        return np.asarray(key & WORD, dtype=np.uint64)
    return np.asarray(key).astype(np.uint64)
