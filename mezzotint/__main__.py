"""`python -m mezzotint` is `mezzotint`, except that Python then finds modules in the current directory too."""

from mezzotint.cli.main import main

if __name__ == "__main__":
    main()
