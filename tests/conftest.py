"""What every test may rely on, however the run was started."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# A shell without job control starts background commands with Ctrl-C ignored, and children inherit that: programs that
# tests interrupt would then never stop.
signal.signal(signal.SIGINT, signal.default_int_handler)
