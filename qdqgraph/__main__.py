"""`python -m qdqgraph`."""

from .cli import entry

entry()
