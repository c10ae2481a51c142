"""Families: one card per paper, with its token loss, update, wiring and equation numbers."""
