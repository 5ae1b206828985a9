"""The command line: parses arguments, calls `qdqgraph.api`, prints."""

from .main import entry, main

__all__ = ["entry", "main"]
