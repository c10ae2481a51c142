"""The command line: one verb per module, assembled in main."""
