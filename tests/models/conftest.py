"""Makes the tiny hybrid and what runs it importable for the tests beside it."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "denoisers"), str(Path(__file__).parent)]
