"""What every test may rely on, however the run was started."""

import signal

# A shell without job control starts background commands with Ctrl-C ignored, and children inherit that: programs that
# tests interrupt would then never stop.
signal.signal(signal.SIGINT, signal.default_int_handler)
