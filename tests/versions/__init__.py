"""That the lowest and the current versions of the dependencies give the same files."""
