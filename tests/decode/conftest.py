"""Makes the tiny networks importable for the tests beside them."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "denoisers"), str(Path(__file__).parent)]
