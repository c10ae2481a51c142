"""The version of the package, where the build and `mezzotint --version` read it."""

VERSION = "0.1.0"
