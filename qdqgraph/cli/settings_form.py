"""The typed keys of `[tool.qdqgraph]`: the fields of `Options`, and the selection of rules."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, defstruct, field

from ..repair.options import Option, Options

Names = tuple[Annotated[str, Meta(min_length=1)], ...]


class Selection(Struct, frozen=True, forbid_unknown_fields=True):
    """The selection of rules"""

    select: Annotated[Names, Meta(description="Run only these rules: codes, prefixes, names, globs.")] = ()
    ignore: Annotated[Names, Meta(description="Do not run these rules.")] = ()


def _type(option: Option) -> Any:
    """Returns the type of an option's value in the file."""
    if option.choices:
        return Literal[option.choices]
    kinds = {"text": str, "number": Annotated[float, Meta(ge=0)], "flag": bool, "list": Names}
    return kinds[option.kind]


def _fields() -> list[tuple[str, Any, Any]]:
    return [
        (
            name,
            Annotated[_type(option), Meta(description=option.help)] | UnsetType,
            field(default=UNSET, name=option.name),
        )
        for name, option in Options.table().items()
        if option.setting
    ]


ModelTable = defstruct("ModelTable", _fields(), bases=(Selection,), frozen=True, forbid_unknown_fields=True)
"""Settings of the models that match a glob."""

SettingsTable = defstruct(
    "SettingsTable",
    [
        ("rules", Annotated[Names, Meta(description="Rule files and folders to add, relative to this file.")], ()),
        (
            "models",
            Annotated[
                dict[str, ModelTable],  # type: ignore[valid-type]
                Meta(description="Settings of the models whose path matches a glob, relative to this file."),
            ],
            field(default_factory=dict),
        ),
    ],
    bases=(ModelTable,),
    frozen=True,
    forbid_unknown_fields=True,
)
"""The table [tool.qdqgraph]."""
