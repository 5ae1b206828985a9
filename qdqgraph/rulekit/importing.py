"""Imports Python rule files, and the helper modules beside them: `from ._helpers import name`.

Every folder of rules is a package of its own, so a relative import finds the modules of that folder and no others.
`sys.path` does not change, and two folders may have helpers of one name. Modules are read again after `forget`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from ..errors import RuleError


def forget(folder: Path) -> None:
    """Lets the rule files of a folder read the modules beside them again, which may have changed."""
    package = _package(folder.resolve())
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        del sys.modules[name]
    importlib.invalidate_caches()  # a helper that was written a moment ago is found


def imported(file: Path) -> ModuleType:
    """The module of a rule file, executed.

    Raises:
        RuleError: it is not a Python file, or it or a helper does not load; with the file and line.
    """
    folder = file.resolve().parent
    package = _package(folder)
    spec = importlib.util.spec_from_file_location(f"{package}.{file.stem}", file)
    if spec is None or spec.loader is None:
        raise RuleError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    parent = ModuleType(package)
    parent.__path__ = [str(folder)]
    sys.modules |= {package: parent, module.__name__: module}
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise RuleError(
            f"{_where(error, file)}: the rule file does not load: {_reason(error, package, folder)}"
        ) from error
    return module


def _package(folder: Path) -> str:
    return f"qdqgraph_rules_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


def _where(error: BaseException, file: Path) -> str:
    """The file and the last line of the folder's files in a traceback; the file alone if there is none."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}:{error.lineno}"
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if Path(f.filename).resolve().parent == file.parent.resolve()
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(file)


def _reason(error: BaseException, package: str, folder: Path) -> str:
    """What went wrong; a helper has the name that a rule writes."""
    said = f"{type(error).__name__}: {error}".replace(f"{package}.", ".")
    if isinstance(error, ModuleNotFoundError) and error.name and (folder / f"{error.name}.py").is_file():
        said += f"; for a module beside the rule, write: from .{error.name} import …"
    return said
