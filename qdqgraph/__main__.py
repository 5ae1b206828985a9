"""`qdqgraph` and `python -m qdqgraph`: signals first, then the imports, then the command.

With -m, Python puts the current folder first on its search path; files there must not be imported.
"""

import os
import sys


def _here() -> str:
    """Returns the current folder; "" if it was deleted."""
    try:
        return os.getcwd()  # noqa: PTH109 - pathlib is not loaded yet
    except OSError:
        return ""


if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False) and sys.path and sys.path[0] in (_here(), ""):
    del sys.path[0]

from .stop import STOP  # noqa: E402 - after the search path


def start() -> None:
    """Runs the command line. A signal during the imports ends the process with one sentence, as it does later."""
    STOP.listen()
    from .cli import entry

    entry()


if __name__ == "__main__":
    start()
