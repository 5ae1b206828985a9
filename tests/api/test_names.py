"""The arguments of the API have the names of the options of the command line, both ways; docs/generate/api_names.py has the rest."""

from __future__ import annotations

import argparse
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import pytest

import qdqgraph
from docs.generate.api_names import LEFT_OUT, RENAMED
from qdqgraph import api
from qdqgraph.api import settings
from qdqgraph.cli.main import parser
from qdqgraph.repair.options import Options

CALLS: Mapping[str, tuple[Callable[..., Any], ...]] = {
    "check": (api.check,),
    "fix": (api.fix,),
    "quantize": (api.quantize,),
    "strip": (api.strip,),
    "apply": (api.apply,),
    "undo": (api.undo,),
    "diff": (api.diff,),
    "why": (api.why,),
    "error": (api.error, api.engine_error),
    "sensitivity": (api.sensitivity,),
    "tune": (api.tune,),
    "engine forecast": (api.forecast,),
    "engine build": (api.build,),
    "engine read": (api.read_engine,),
    "engine diff": (api.compare,),
    "engine time": (api.estimate,),
}
"""The functions of each command."""
ONE_RULE = {"why": {"select", "ignore"}}
"""Options without effect: a command that runs one rule."""
OF_ALL_OPTIONS = set(Options.__dataclass_fields__)
"""`tune` repairs first, so it takes the options of `fix`."""
ONLY_IN_PYTHON = {
    "options": "the options as one value",
    "folder": "of external data; a program may have the model in memory",
    "progress": "a program shows steps itself",
    "note": "a program shows notes itself",
    "globs": "a settings file of several models may have globs that match nothing in this one",
    "magnitudes": "measured by the command line",
    "other_targets": "`check` always reports them",
}
"""Arguments without an option, and why."""


def command_parser(command: str) -> argparse.ArgumentParser:
    found = parser()
    for word in command.split():
        verbs = next(a for a in found._actions if isinstance(a, argparse._SubParsersAction))
        found = verbs.choices[word]
    return found


def options_of(command: str) -> set[str]:
    """The long options of a command, without their dashes."""
    actions = command_parser(command)._actions
    return {o.removeprefix("--") for a in actions for o in a.option_strings if o.startswith("--")}


def positional(command: str) -> set[str]:
    return {action.dest for action in command_parser(command)._actions if not action.option_strings}


def arguments_of(command: str) -> set[str]:
    return {name for call in CALLS[command] for name in inspect.signature(call).parameters}


def left_out(command: str) -> set[str]:
    return {name.removeprefix(f"{command} --") for name in LEFT_OUT}


def renamed(option: str) -> str:
    return RENAMED[option][0] if option in RENAMED else option.replace("-", "_")


@pytest.mark.parametrize("command", CALLS)
def test_every_option_is_an_argument_of_the_same_name(command: str) -> None:
    asked = options_of(command) - left_out(command) - ONE_RULE.get(command, set())
    assert {option for option in asked if renamed(option) not in arguments_of(command)} == set()


@pytest.mark.parametrize("command", CALLS)
def test_every_argument_is_an_option_of_the_same_name(command: str) -> None:
    known = {*map(renamed, options_of(command)), *positional(command), *ONLY_IN_PYTHON}
    known |= {"models": {"model"}, "engines": {"sources"}}.get(next(iter(positional(command)), ""), set())
    known |= OF_ALL_OPTIONS if command == "tune" else set()
    assert arguments_of(command) - known == set()


def test_the_exceptions_are_of_options_that_exist() -> None:
    options = set().union(*map(options_of, CALLS))
    assert set(RENAMED) <= options and {name.split("--")[-1] for name in LEFT_OUT} <= options
    arguments = set().union(*map(arguments_of, CALLS))
    assert {argument for argument, _ in RENAMED.values()} <= arguments and set(ONLY_IN_PYTHON) <= arguments


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (settings.CheckOptions, {name for name, option in Options.table().items() if option.check}),
        (settings.QuantizeOptions, {name for name, option in Options.table().items() if not option.scaled}),
        (settings.FixOptions, OF_ALL_OPTIONS),
    ],
)
def test_the_typed_options_are_the_fields_of_the_options(kind: type, wanted: set[str]) -> None:
    """`Options` defines them: names, types and which command takes them. A list may be given for a tuple."""
    types, own = typing.get_type_hints(kind), typing.get_type_hints(Options)
    assert set(types) == wanted
    lists = {name for name, option in Options.table().items() if option.kind == "list"}
    assert {name: types[name] for name in wanted - lists} == {name: own[name] for name in wanted - lists}
    assert {str(types[name]) for name in lists & wanted} <= {"collections.abc.Sequence[str]"}


def test_help_lists_each_option_with_its_default() -> None:
    for call in (qdqgraph.fix, qdqgraph.check, qdqgraph.quantize, qdqgraph.tune):
        found = inspect.signature(call).parameters
        assert not [p for p in found.values() if p.kind is p.VAR_KEYWORD]
        assert found["max_bits_lost"].default is None and found["target"].default == Options().target


def test_dir_shows_what_a_user_needs_and_no_more() -> None:
    assert dir(qdqgraph) == qdqgraph.__all__ == sorted(qdqgraph.__all__)
    for name in (name for name in qdqgraph.__all__ if name[0].islower()):
        returned = inspect.signature(getattr(qdqgraph, name)).return_annotation
        words = {word for word in __import__("re").findall(r"[A-Z]\w+", returned) if word != "ModelProto"}
        assert words <= set(qdqgraph.__all__), f"{name} returns {returned}"


@pytest.mark.parametrize("name", [name for name in qdqgraph.__all__ if name[0].islower()])
def test_a_misspelt_argument_is_refused_with_one_suggestion(name: str) -> None:
    call = getattr(qdqgraph, name)
    last = list(inspect.signature(call).parameters)[-1]
    with pytest.raises(qdqgraph.ArgumentError, match=f"{name} has no option '{last}x'; did you mean '{last}'"):
        call(**{f"{last}x": None})
    assert issubclass(qdqgraph.ArgumentError, TypeError)


def test_an_argument_that_resembles_none_is_refused_with_where_to_look() -> None:
    with pytest.raises(qdqgraph.ArgumentError, match=r"fix has no option 'qqqqqq'; help\(qdqgraph.fix\) lists all"):
        qdqgraph.fix("model.onnx", qqqqqq=1)  # type: ignore[call-arg]
    with pytest.raises(qdqgraph.ArgumentError, match="fix: missing a required argument: 'model'"):
        qdqgraph.fix()  # type: ignore[call-arg]
