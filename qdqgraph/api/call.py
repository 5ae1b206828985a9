"""`public`: what the functions of the API have in common: how they refuse arguments, log their steps and fail."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import fields
from typing import Any, ParamSpec, TypeVar

from ..crash import guarded
from ..errors import ArgumentError, guess
from ..log import Logged
from ..model.inline.references import in_command, referencing
from ..repair.options import Options

P = ParamSpec("P")
R = TypeVar("R")
PROGRESS = "progress"
"""The argument that is called with one line before each step."""


def public(settings: type[Any] | None = None, *, plain: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function a part of the API.

    An unknown or missing argument is an `ArgumentError` that suggests the nearest name. The signature that `help` and
    `inspect.signature` show lists each option of `settings` with its default. Each step of the call is logged at INFO.
    Unexpected errors become `InternalError`.

    Args:
        settings: the typed dictionary of the options that the function takes by name as `**settings`; None for none.
        plain: what the function returns has no model, so a large file that it is given is read without its weights.
    """

    def decorate(call: Callable[P, R]) -> Callable[P, R]:
        signature = _signature(call, settings)
        steps = PROGRESS in signature.parameters

        @functools.wraps(call)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            _refuse(call.__name__, signature, args, kwargs)
            if steps:
                given = kwargs.get(PROGRESS)
                kwargs[PROGRESS] = given if isinstance(given, Logged) else Logged(given)  # type: ignore[arg-type]
            with referencing() if plain and not in_command() else nullcontext():
                return call(*args, **kwargs)

        found = guarded(run)
        found.__signature__ = signature  # type: ignore[attr-defined]
        return found

    return decorate


def _signature(call: Callable[..., Any], settings: type[Any] | None) -> inspect.Signature:
    """The signature of a function, with each of its options in place of `**settings`."""
    own = inspect.signature(call)
    if settings is None:
        return own
    defaults = {option.name: option.default for option in fields(Options)}
    kind = inspect.Parameter.KEYWORD_ONLY
    found = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    for name, annotation in inspect.get_annotations(settings, eval_str=False).items():
        text = annotation.__forward_arg__ if hasattr(annotation, "__forward_arg__") else annotation
        found.append(inspect.Parameter(name, kind, default=defaults[name], annotation=text))
    return own.replace(parameters=found)


def _refuse(name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Rejects arguments that do not fit a signature.

    Raises:
        ArgumentError: an argument is unknown, missing or given twice.
    """
    for given in kwargs:
        if given not in signature.parameters:
            near = guess(given, signature.parameters)
            raise ArgumentError(f"{name} has no option {given!r}{near or f'; help(qdqgraph.{name}) lists all'}")
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ArgumentError(f"{name}: {error}") from error
