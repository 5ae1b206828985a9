"""Finds and calls the user's functions, named as `package.module:function` or `file.py:function`; prints the
tracebacks of their errors."""

from __future__ import annotations

import importlib
import importlib.util
import operator
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import TorchError
from ..printable import printable_lines

OURS = str(Path(__file__).parent.parent) + os.sep
"""The folder of our own code; with a separator, because a folder next to it may begin with the same name."""
LOADERS = (OURS, pkgutil.__file__, importlib.__file__)
"""Code between the command line and the user's code in a traceback."""


def resolve(name: str, option: str) -> Callable[..., Any]:
    """The function that the user names as `package.module:function` or `file.py:function`.

    Raises:
        TorchError: there is no such function.
    """
    module, _, function = name.rpartition(":")
    path = f"{_loaded(Path(module), f'{option} {name}')}:{function}" if module.endswith(".py") else name
    if not module or not all(part.isidentifier() for part in path.replace(":", ".").split(".")):
        form = "package.module:function or file.py:function"
        raise TorchError(f"{option} {name!r}: write {form}, each part a name in Python")
    try:
        found: Any = pkgutil.resolve_name(path)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            where = "in this folder or on the Python path"
            raise TorchError(f"{option} {name}: there is no module {error.name!r} {where}") from error
        raise failed(f"{option} {name}", error) from error
    except (Exception, SystemExit) as error:
        if (
            isinstance(error, AttributeError) and path.partition(":")[0] in sys.modules
        ):  # imported, so the name is missing
            raise TorchError(f"{option} {name}: the module {module} has no {function!r}") from error
        raise failed(f"{option} {name}", error) from error
    if not callable(found):
        raise TorchError(f"{option} {name}: {function} is not a function")
    call: Callable[..., Any] = found
    return call


def resolve_here(name: str, option: str) -> Callable[..., Any]:
    """As `resolve`, with modules of the current folder."""
    sys.path.insert(0, str(Path.cwd()))
    return resolve(name, option)


def _loaded(path: Path, what: str) -> str:
    """Runs a Python file, which may import its neighbours, as a module; returns the module's name."""
    if not path.is_file():
        raise TorchError(f"{what}: there is no file {path}")
    sys.path.insert(0, str(path.resolve().parent))
    name = "user_" + re.sub(r"\W", "_", path.stem)  # the file may have the name of a module that is in use
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None and specification.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise failed(what, error) from error
    return name


def called(function: Callable[..., Any], name: str, *args: Any) -> Any:
    """The result of a user's function.

    Raises:
        TorchError: the function raised; its own traceback is printed.
    """
    try:
        return function(*args)
    except (Exception, SystemExit) as error:
        raise failed(name, error) from error


class Batches:
    """The batches that a user's function yields; errors are shown as the user's own.

    Raises:
        TorchError: the function raised, or its result is not iterable.
    """

    def __init__(self, loader: Any, name: str) -> None:
        self.loader, self.name = loader, name

    def __length_hint__(self) -> int:
        return int(called(operator.length_hint, self.name, self.loader))

    def __iter__(self) -> Iterator[Any]:
        if not hasattr(self.loader, "__iter__") and not hasattr(self.loader, "__getitem__"):
            raise TorchError(f"{self.name} returns {type(self.loader).__name__}, which yields no batches")
        batches = called(iter, self.name, self.loader)
        end = object()
        while (batch := called(next, self.name, batches, end)) is not end:
            yield batch


def failed(name: str, error: BaseException) -> TorchError:
    """Prints the traceback of the user's code without our own frames; returns the error to raise.

    Args:
        name: the function that raised, as the user wrote it.
    """
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(LOADERS):
        frames = frames.tb_next
    lines = "".join(traceback.format_exception(type(error), error, frames))
    print(printable_lines(lines), file=sys.stderr, end="")  # noqa: T201
    return TorchError(f"{name} failed with the {type(error).__name__} above")
