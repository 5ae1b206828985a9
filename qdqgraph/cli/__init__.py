"""The command line: parses arguments, calls `qdqgraph.api`, prints the result."""

from .console_script import entry
from .main import main

__all__ = ["entry", "main"]
