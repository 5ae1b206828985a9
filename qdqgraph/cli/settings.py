"""`Settings`: the table `[tool.qdqgraph]` of a pyproject.toml, for all models and per model.

The nearest pyproject.toml at or above the working directory that has the table is read, as other tools do. A model's
own settings replace the general ones, except `ignore`, `only`, `except` and `also`, which add to them; the command line
overrides both.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ..errors import RuleError
from ..repair.options import Options
from ..rulekit.policy import Policy
from ..toml.file import TextError, TomlFile, table_of
from ..toml.place import Place
from .settings_form import SettingsTable

TABLE = ("tool", "qdqgraph")
ADDING = ("ignore", *(option.name for option in Options.table().values() if option.kind == "list"))
"""Settings of one model that add to the general ones; the others replace them."""


@dataclass(frozen=True)
class Settings:
    """Settings as written, by their names in the file.

    Attributes:
        folder: the folder of the file; `rules` are relative to it.
        general: settings for every model; models: by glob, settings for the models that it matches.
        source: the file, for messages; None without one.
    """

    folder: Path = Path()
    general: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: TomlFile[Any] | None = None

    @classmethod
    def read(cls, path: Path) -> Settings:
        """The table of one file.

        Raises:
            RuleError: the file cannot be read, or the table is wrong; with line and what to write.
        """
        source = TomlFile(path, SettingsTable, TABLE)
        data = dict(source.table)
        models = data.pop("models", {})
        for glob in models:
            source.read(("models", glob), _check_path, glob)
        for place, table in (((), data), *((("models", glob), own) for glob, own in models.items())):
            if "policy" in table:
                source.read((*place, "policy"), Policy.parse, table["policy"])
            for name in ("only", "except"):
                for index, text in enumerate(table.get(name, ())):
                    source.read((*place, name, index), _check_glob, text)
        for index, name in enumerate(data.get("rules", ())):
            if not (path.parent / name).exists():
                source.fail(("rules", index), f"there is no rule file or folder {path.parent / name}")
        return cls(path.parent, data, models, source)

    @classmethod
    def near(cls, folder: Path) -> Settings:
        """The settings for a folder; empty if no pyproject.toml has the table.

        Raises:
            RuleError: the file is wrong.
        """
        for place in (folder.resolve(), *folder.resolve().parents):
            path = place / "pyproject.toml"
            if path.is_file() and _has_table(path):
                return cls.read(path)
        return cls()

    @property
    def rules(self) -> tuple[Path, ...]:
        """Rule files and folders to add."""
        return tuple(self.folder / name for name in self.general.get("rules", ()))

    def of(self, model: Path) -> Mapping[str, Any]:
        """The settings for one model."""
        found = dict(self.general)
        for glob, own in self.models.items():
            if self._names(model, glob):
                for name, value in own.items():
                    found[name] = [*found.get(name, ()), *value] if name in ADDING else value
        return found

    def refuse(self, model: Path, key: str, entry: str, fault: RuleError) -> NoReturn:
        """Refuses an entry of a list in the settings for a model, with file and line.

        Raises:
            RuleError: always.
        """
        tables: list[tuple[Place, Mapping[str, Any]]] = [((), self.general)]
        tables += [(("models", glob), own) for glob, own in self.models.items() if self._names(model, glob)]
        for place, table in tables:
            if self.source is not None and entry in table.get(key, ()):
                self.source.fail((*place, key, list(table[key]).index(entry)), str(fault), fault)
        raise fault

    def _names(self, model: Path, glob: str) -> bool:
        whole, folder = model.resolve(), self.folder.resolve()
        inside = whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else whole.as_posix()
        return fnmatch.fnmatchcase(inside, glob) or fnmatch.fnmatchcase(model.name, glob)


def _check_glob(text: str) -> None:
    """Checks a glob.

    Raises:
        TextError: a set of characters has no end.
    """
    if "[" in re.sub(r"\[!?\]?[^\]]*\]", "", text):
        raise TextError(f"{text!r} is not a glob: '[' begins a set and there is no ']'; write [[] for the character")


def _check_path(text: str) -> None:
    """Checks a glob of the paths of models.

    Raises:
        TextError: it is no glob, or cannot match a path below the folder of the file.
    """
    _check_glob(text)
    if text.startswith(("./", "../")) or "\\" in text or not text:
        raise TextError(
            f"{text!r} matches no model: write a path below the folder of this file, with '/', without './' or '../'"
        )


def _has_table(path: Path) -> bool:
    try:
        data = table_of(path)[1]
    except RuleError as error:
        raise RuleError(f"{error}; use --no-config to ignore it") from error
    return isinstance(data.get("tool"), dict) and "qdqgraph" in data["tool"]
