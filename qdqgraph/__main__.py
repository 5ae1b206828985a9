"""`python -m qdqgraph`. Python puts the current folder first on its search path; files there must not be imported."""

import os
import sys

if not sys.flags.safe_path and sys.path and sys.path[0] == os.getcwd():  # noqa: PTH109 - pathlib is not loaded yet
    del sys.path[0]

from .cli import entry

entry()
