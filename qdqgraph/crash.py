"""The last resort: an error that is no `QdqgraphError` is a defect of qdqgraph, and one sentence says where it is."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ParamSpec, TypeVar

from .errors import LINK_LOOP, InternalError, ModelError, QdqgraphError, first_line, reason

P = ParamSpec("P")
R = TypeVar("R")

PACKAGE = Path(__file__).parent
ENTRIES = ("api", "cli", "crash.py", "__main__.py")
"""What calls the other folders; the first other folder of a traceback is the step that failed."""
EXAMINED = os.path.join("report", "examined.py")  # noqa: PTH118 - the end of a path
"""A module that calls others for more than reports."""
STEPS = {
    "authoring": "running a rule",
    "calibration": "calibrating",
    "engines": "computing or reading an engine",
    "fp16": "converting to FP16",
    "graph": "reading the graph",
    "model": "reading or writing the model",
    "proposals": "repairing",
    "repair": "repairing",
    "report": "writing the report",
    "rulekit": "running the rules",
    "rules": "running the rules",
    "search": "searching for a placement",
    "targets": "reading the target",
    "toml": "reading a TOML file",
    "torch": "working on the PyTorch model",
    "verify": "comparing outputs",
}
"""For each folder of the package what it does, as a step in a message."""
LIBRARIES = {"onnxruntime": "ONNX Runtime"}
"""Libraries whose errors are about the model: they refuse it, or cannot run it."""
PYTHON = "Python"
"""The owner of the standard library."""
TRACEBACK = "QDQGRAPH_TRACEBACK"
"""The environment variable that lets the command line print the traceback of an internal error."""


def guarded(call: Callable[P, R]) -> Callable[P, R]:
    """Lets an API function raise `InternalError` for an error that it did not expect.

    Errors of the caller's own code (a callback, a function that yields samples) and of wrong arguments pass unchanged.
    """

    @functools.wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except QdqgraphError:
            raise
        except Exception as error:
            if not is_ours(error):
                raise
            known = expected(error, call.__name__)
            if known is not None:
                raise known from error
            files = [str(a) for a in (*args, *kwargs.values()) if isinstance(a, str | os.PathLike)]
            raise InternalError(sentence(error, call.__name__, files)) from error

    return run


def is_ours(error: BaseException) -> bool:
    """Returns whether an error comes from this package or a library that it calls, not from the code of its caller."""
    folders = [str(PACKAGE), *map(str, rule_folders()), *(sysconfig.get_path(name) for name in ("stdlib", "purelib"))]
    names = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    inside = [name.startswith((*folders, "<")) for name in names]
    first = next((i for i, name in enumerate(names) if _folder(name) not in ("", "crash.py")), None)
    return first is not None and all(inside[first:])


def expected(error: Exception, call: str) -> QdqgraphError | None:
    """The error for what no code prevents: a file or folder that cannot be read, memory that is not there.

    Args:
        error: the error.
        call: the command or function.

    Returns:
        None for any other error: a defect.
    """
    if isinstance(error, FileNotFoundError) and error.filename is None and not _has_folder():
        return ModelError(f"{call}: the current folder was deleted: change to another one")
    if isinstance(error, OSError):
        name = error.filename if error.filename is not None else call
        return ModelError(f"{os.fsdecode(name) if isinstance(name, bytes) else name}: {reason(error)}")
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
        name = str(error).partition(" from ")[2].strip("'")
        return ModelError(f"{name}: {LINK_LOOP}")
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding():
        fault = f"names of files have the encoding {error.encoding} here, which lacks {error.object[error.start]!r}"
        return ModelError(f"{call}: {fault}: set PYTHONUTF8=1")
    library = type(error).__module__.partition(".")[0]
    if library in LIBRARIES or isinstance(error, onnx_errors()):
        who = LIBRARIES.get(library, "onnx")
        return ModelError(f"{call}: {who} refuses the model while {_step(error)}: {first_line(error)}")
    if isinstance(error, MemoryError):
        detail = f": {first_line(error)}" if str(error).strip() else ""
        return ModelError(f"{call}: there is not enough memory while {_step(error)}{detail}")
    return None


def _has_folder() -> bool:
    """Returns whether the current folder exists."""
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def onnx_errors() -> tuple[type[Exception], ...]:
    """The errors by which onnx rejects a model, if it is loaded."""
    if "onnx" not in sys.modules:
        return ()
    import onnx

    return onnx.checker.ValidationError, onnx.shape_inference.InferenceError


def rule_folders() -> tuple[Path, ...]:
    """The folders of the built-in rules, installed or in the source tree."""
    return PACKAGE / "rules", PACKAGE.parent / "rules"


def sentence(error: BaseException, call: str, files: list[str]) -> str:
    """The message of an internal error: what, in which step and file, and how to report it.

    Args:
        error: the error.
        call: the command or function.
        files: the files that it was called with.
    """
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if _folder(frame.filename)]
    where = f" ({Path(ours[-1].filename).name}:{ours[-1].lineno})" if ours else ""
    names = f" with {', '.join(files[:3])}" if files else ""
    what = type(error).__name__ + (f": {first_line(error)}" if str(error).strip() else "")
    report = f"please report it with the file and the traceback, which {TRACEBACK}=1 or --traceback prints"
    step = f"internal error while {_step(error)} in {call}{names}"
    return f"{step}: {what}{where}; this is a defect of qdqgraph: {report}"


def _step(error: BaseException) -> str:
    """What the command did when the error came."""
    return step_of([frame.filename for frame in traceback.extract_tb(error.__traceback__)])


def step_of(files: Iterable[str]) -> str:
    """What the command does.

    Args:
        files: of the functions that run, the outermost first.
    """
    steps = [file for file in files if not file.endswith(EXAMINED)]
    folders = [name for file in steps if (name := _folder(file)) and name not in ENTRIES]
    return STEPS.get(folders[0], folders[0]) if folders else "starting"


def owner(file: str) -> str:
    """Whose code a file is: "qdqgraph", the name of a library, or "" for code of the user.

    Libraries are what is installed, with the standard library.
    """
    if _folder(file):
        return "qdqgraph"
    for name in ("purelib", "platlib"):
        place = Path(sysconfig.get_path(name))
        if Path(file).is_relative_to(place):
            package = Path(file).relative_to(place).parts[0]
            return LIBRARIES.get(package, package)
    return PYTHON if file.startswith(("<", sysconfig.get_path("stdlib"))) else ""


def _folder(file: str) -> str:
    """The folder or module of this package that a file belongs to; "" if it is not part of it."""
    path = Path(file)
    if path.is_relative_to(PACKAGE):
        return path.relative_to(PACKAGE).parts[0]
    return "rules" if any(path.is_relative_to(folder) for folder in rule_folders()) else ""
