"""`Settings`: the table `[tool.qdqgraph]` of a pyproject.toml, for all models and per model.

The nearest pyproject.toml at or above the working directory that has the table is read, as other tools do. A model's
own settings replace the general ones, except `ignore`, `only`, `except` and `also`, which add to them; the command line
overrides both.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RuleError, reason
from ..repair.options import Options
from ..toml.file import TomlFile
from ..versions import tomllib
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
    """

    folder: Path = Path()
    general: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Settings:
        """The table of one file.

        Raises:
            RuleError: the file cannot be read, or the table is wrong; with line and what to write.
        """
        data = dict(TomlFile(path, SettingsTable, TABLE).table)
        models = data.pop("models", {})
        return cls(path.parent, data, models)

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

    def _names(self, model: Path, glob: str) -> bool:
        whole, folder = model.resolve(), self.folder.resolve()
        inside = whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else whole.as_posix()
        return fnmatch.fnmatchcase(inside, glob) or fnmatch.fnmatchcase(model.name, glob)


def _has_table(path: Path) -> bool:
    try:
        data: Any = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(f"{path}: cannot be read: {reason(error)}; use --no-config to ignore it") from error
    except tomllib.TOMLDecodeError as error:
        raise RuleError(f"{path}: this is not valid TOML: {error}; use --no-config to ignore it") from error
    return isinstance(data.get("tool"), dict) and "qdqgraph" in data["tool"]
