"""The logger of the package, `qdqgraph`: steps of long calls at INFO, decisions of a repair at DEBUG.

The package prints nothing and adds no handler that does; `logging.basicConfig(level="INFO")` shows the steps.
"""

import logging

LOG = logging.getLogger("qdqgraph")
LOG.addHandler(logging.NullHandler())


def log_step(line: str) -> None:
    """Logs one step of a long call; what functions call that are given nothing to call."""
    LOG.info("%s", line)
