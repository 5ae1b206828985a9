"""The user's own functions, named as `package.module:function`, and their errors with their own tracebacks."""

from __future__ import annotations

import importlib
import operator
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import TorchError

OURS = str(Path(__file__).parent.parent) + os.sep
"""Where our own code lies; with a separator, as a folder beside it may begin with the same name."""
LOADERS = (OURS, pkgutil.__file__, importlib.__file__)
"""What lies between the command line and the user's code in a traceback."""


def resolve(name: str, option: str) -> Callable[..., Any]:
    """The function that the user names as `package.module:function`.

    Raises:
        TorchError: there is none.
    """
    module, _, function = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *function.split("."))):
        raise TorchError(f"{option} {name!r}: write package.module:function, each a name in Python")
    try:
        found: Any = pkgutil.resolve_name(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise TorchError(f"{option} {name}: there is no module {error.name!r} here or on the path") from error
        raise failed(f"{option} {name}", error) from error
    except (Exception, SystemExit) as error:
        if isinstance(error, AttributeError) and module in sys.modules:  # it was imported: the name is what is missing
            raise TorchError(f"{option} {name}: the module {module} has no {function!r}") from error
        raise failed(f"{option} {name}", error) from error
    if not callable(found):
        raise TorchError(f"{option} {name}: {function} is no function")
    call: Callable[..., Any] = found
    return call


def called(function: Callable[..., Any], name: str, *args: Any) -> Any:
    """What a function of the user's answers.

    Raises:
        TorchError: it raised; its own traceback is printed.
    """
    try:
        return function(*args)
    except (Exception, SystemExit) as error:
        raise failed(name, error) from error


class Batches:
    """What a function of the user's yields, with errors that are the user's.

    Raises:
        TorchError: it raised, or yields nothing that could be gone through.
    """

    def __init__(self, loader: Any, name: str) -> None:
        self.loader, self.name = loader, name

    def __length_hint__(self) -> int:
        return int(called(operator.length_hint, self.name, self.loader))

    def __iter__(self) -> Iterator[Any]:
        if not hasattr(self.loader, "__iter__") and not hasattr(self.loader, "__getitem__"):
            raise TorchError(f"{self.name} gives {type(self.loader).__name__}, which yields no batches")
        batches = called(iter, self.name, self.loader)
        end = object()
        while (batch := called(next, self.name, batches, end)) is not end:
            yield batch


def failed(name: str, error: BaseException) -> TorchError:
    """Prints the traceback of the user's code, without ours above it; returns the one sentence.

    Args:
        name: the function that raised, as the user wrote it.
    """
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(LOADERS):
        frames = frames.tb_next
    print("".join(traceback.format_exception(type(error), error, frames)), file=sys.stderr, end="")  # noqa: T201
    return TorchError(f"{name} failed with the {type(error).__name__} above")
