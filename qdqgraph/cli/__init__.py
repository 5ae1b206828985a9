"""The command line: parses arguments, calls `qdqgraph.api`, prints the result."""

from .main import entry, main

__all__ = ["entry", "main"]
