"""`python -m mezzotint`: the command line."""

from mezzotint.cli.main import main

if __name__ == "__main__":
    main()
