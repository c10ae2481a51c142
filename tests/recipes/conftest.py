"""Makes the tiny models importable for the tests beside it."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("denoisers", "checkpoints", "e2e")]
