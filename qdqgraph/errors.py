"""What can go wrong, as one tree: every error a user can mend derives from `QdqgraphError`.

    QdqgraphError
    ├── ModelError      the file cannot be read, is no ONNX, or cannot be used
    ├── RuleError       a rule file cannot be loaded or contradicts itself
    ├── PlanError       a plan is damaged or does not fit the model (stale)
    ├── EngineError     an engine cannot be read, built or compared
    ├── TorchError      the PyTorch model, its configuration or its calibration cannot be used
    └── RepairError     the repair was refused: illegal graph, not bit-exact, no fixpoint

The command line prints the message of any of them as one sentence and exits with 2.
"""

import difflib
from collections.abc import Iterable


class QdqgraphError(Exception):
    """Base of all errors whose message is written for the user."""


class ModelError(QdqgraphError):
    """The model cannot be read or used."""


class RuleError(QdqgraphError):
    """A rule, or a selection of rules, is unusable."""


class PlanError(QdqgraphError):
    """A plan cannot be read, or was made for another model."""


class EngineError(QdqgraphError):
    """An engine, or what an engine exported, is unusable, or no engine could be built."""


class TorchError(QdqgraphError):
    """The PyTorch model, its configuration or its calibration cannot be used."""


class RepairError(QdqgraphError):
    """The repair was refused and nothing was written."""


def reason(error: OSError | UnicodeDecodeError) -> str:
    """Why a file could not be read or written, for a sentence that names the file already."""
    if isinstance(error, UnicodeDecodeError):
        return "it is no UTF-8 text"
    return error.strerror or str(error)


def guess(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """What a message says behind a name that is not known: "; did you mean 'x'?", "" where nothing is like it."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""
