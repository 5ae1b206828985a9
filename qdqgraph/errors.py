"""The exception hierarchy: every error that a user can fix derives from `QdqgraphError`.

    QdqgraphError
    ├── ModelError       the file cannot be read, is not an ONNX model, or cannot be used
    │   └── GraphError     its graph is damaged, or not what the call takes
    ├── RuleError        a rule file cannot be loaded or is inconsistent
    │   └── ProposalError  a rule proposes what the graph does not allow
    ├── PlanError        a plan is damaged or does not match the model (stale)
    ├── EngineError      an engine cannot be read, built or compared
    ├── CalibrationError a calibration method, its argument or measured statistics cannot be used
    ├── TorchError       the PyTorch model, its configuration or its calibration cannot be used
    ├── RepairError      the repair was refused: illegal graph, not bit-exact, no fixpoint
    ├── ArgumentError    a function has no argument of this name, or lacks one; also a TypeError
    └── InternalError    a defect of qdqgraph; `__cause__` is the error itself

The command line prints the message of any of these errors as one sentence and exits with code 2, with code 3 for an
`InternalError`.
"""

import fnmatch
import os
from collections.abc import Iterable

LINK_LOOP = "a loop of symbolic links"
"""What a path is for which `Path.resolve` raises a RuntimeError, before Python 3.13."""


class QdqgraphError(Exception):
    """Base class of all errors whose message is addressed to the user."""


class ModelError(QdqgraphError):
    """The model cannot be read or used."""


class GraphError(ModelError):
    """The graph of a model cannot be used. The message is about the model, whose file only the caller knows."""


class RuleError(QdqgraphError):
    """A rule or a selection of rules cannot be used."""


class ProposalError(RuleError):
    """A rule proposes what the graph does not allow; the run adds the rule, with its file and line."""


class NameClashError(ProposalError):
    """Two new nodes of a proposal produce one tensor.

    Attributes:
        name: the name of the tensor.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"two new nodes produce '{name}': give each output its own name")
        self.name = name


class PlanError(QdqgraphError):
    """A plan cannot be read, or belongs to another model."""


class EngineError(QdqgraphError):
    """An engine or an engine export cannot be used, or an engine cannot be built."""


class CalibrationError(QdqgraphError):
    """A calibration method cannot be used as asked, or statistics belong to another network or other data."""


class TorchError(QdqgraphError):
    """The PyTorch model, its configuration or its calibration cannot be used."""


class RepairError(QdqgraphError):
    """The repair was refused and nothing was written."""


class ArgumentError(QdqgraphError, TypeError):
    """A function has no argument or option of a name, or a required argument is missing."""


class InternalError(QdqgraphError):
    """A defect of qdqgraph; the message names file and step, and the cause is the unexpected error."""


def reason(error: OSError | UnicodeDecodeError) -> str:
    """Returns why a file cannot be read or written, for a message that already names the file; of one that is not
    there, also the file with the most similar name."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    near = _neighbour(error.filename) if isinstance(error, FileNotFoundError) else ""
    return f"{error.strerror or error}{f'; did you mean {near!r}?' if near else ''}"


def _neighbour(missing: object) -> str:
    """The file in the folder of a missing one whose name is most similar; "" if none is."""
    from pathlib import Path  # only here: `python -m qdqgraph` loads this module first

    if not isinstance(missing, str | os.PathLike):
        return ""
    path = Path(missing)
    try:
        names = sorted(each.name for each in path.parent.iterdir())
    except (OSError, ValueError):
        return ""
    stems = {name.removesuffix(path.suffix): name for name in names if name.endswith(path.suffix)}
    near = stems.get(nearest(path.stem, stems), "") or nearest(path.name, names, 0.8)
    return str(path.with_name(near)) if near else ""


def field_fault(error: Exception) -> str:
    """Returns a msgspec ValidationError as text, field first: "edits[3].index: Expected `int`, got `str`"."""
    message, _, path = str(error).partition(" - at `$")
    return f"{path.strip('.`')}: {message}" if path else message


def first_line(error: BaseException, most: int = 300) -> str:
    """Returns the first line of a library's error, at most `most` characters; its type if it has no message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:most]


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun: "1 layer", "2 layers"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def guess(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Returns the suffix of a message about an unknown name: "; did you mean 'x'?", or "" if no known name is close.

    Args:
        name: the name, or a glob that matches none of the known names.
        known: the known names.
        cutoff: how similar a name must be, 0 to 1; a name that differs only in case always is.
    """
    near = nearest(name, known, cutoff)
    return f"; did you mean {near!r}?" if near else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Returns the message about an unknown name: what there is instead, and which is most similar."""
    names = tuple(known)
    near = guess(name, names)
    return f"unknown {what} {name!r}{f'{near} Known' if near else '; known'} {what}s: {', '.join(names)}"


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Returns the known name that is most similar; for a glob a glob that matches one; "" if nothing is similar."""
    import difflib  # only here: most runs need no guess, and `python -m qdqgraph` loads this module first

    names = list(dict.fromkeys(known))
    wild = next((place for place, character in enumerate(name) if character in "*?["), len(name))
    if 0 < wild < len(name):
        starts = {each[: end + 1] for each in names for end, mark in enumerate(each) if mark in "/."}
        near = difflib.get_close_matches(name[:wild], sorted(starts), n=3, cutoff=cutoff)
        if whole := next((s + name[wild:] for s in near if fnmatch.filter(names, s + name[wild:])), ""):
            return whole
    same = [each for each in names if each.lower() == name.lower()]
    best, most = next(iter(same), ""), cutoff
    matcher = difflib.SequenceMatcher(b=name)
    for each in () if same else names:
        matcher.set_seq1(each)
        if min(matcher.real_quick_ratio(), matcher.quick_ratio()) >= most and (ratio := matcher.ratio()) >= most:
            best, most = (each, ratio) if ratio > most or not best else (best, most)  # the first of equal ones
    return best
