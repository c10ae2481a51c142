"""`python -m mezzotint.checkpoints`: fetch the default model, with nothing but the standard library and pip."""

import sys

from mezzotint.checkpoints.catalogue import DEFAULT_MODEL, pull
from mezzotint.errors import MezzotintError

if __name__ == "__main__":
    try:
        print(pull(DEFAULT_MODEL))  # noqa: T201 - the output of this script
    except MezzotintError as error:
        print(error, file=sys.stderr)  # noqa: T201 - likewise
        sys.exit(error.exit_code)
