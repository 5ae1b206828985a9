"""Fuzzing of every command: see `__main__`."""
