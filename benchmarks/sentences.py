"""What goes wrong in a benchmark is one sentence and the exit code of the command line."""

import sys
from collections.abc import Callable

from mezzotint.errors import MezzotintError


def guarded(main: Callable[[], None]) -> None:
    """Run it; errors that have a sentence say it on stderr."""
    try:
        main()
    except MezzotintError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
