"""`TomlFile`: a TOML file read into a typed form; errors state the file, the line and what to write."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

import msgspec

from ..errors import RuleError, reason
from ..versions import tomllib
from .place import Place

if TYPE_CHECKING:
    from .positions import Positions

T = TypeVar("T")
F = TypeVar("F", bound=msgspec.Struct)


class TextError(RuleError):
    """The content of an entry is wrong; `line` is the line in the entry's own text, from 0, or None if unknown."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def table_of(path: Path) -> tuple[str, dict[str, Any]]:
    """The text of a TOML file, and its table.

    Raises:
        RuleError: the file cannot be read, or is not TOML; with the line, where the parser names one.
    """
    text = ""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return text, tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(f"{path}: cannot be read: {reason(error)}") from error
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = found[1] if found else text.count("\n") + 1
        raise RuleError(f"{path}:{line}: this is not valid TOML: {error}") from error
    except RecursionError as error:
        raise RuleError(f"{path}: this is not valid TOML: its arrays or tables are nested too deeply") from error
    except ValueError as error:  # Python does not convert it
        raise RuleError(f"{path}: this is not valid TOML: an integer has thousands of digits") from error


class TomlFile(Generic[F]):
    """A TOML file, or one table of it, as a typed form.

    Attributes:
        path: the file.
        table: the table as written, without defaults.
        data: the table as `form`, with defaults for absent keys.

    Args:
        form: a Struct that forbids unknown fields; its field names are the keys.
        root: the keys that lead to the table; an absent table counts as empty.

    Raises:
        RuleError: with file, line, what is wrong and what to write.
    """

    def __init__(self, path: Path, form: type[F], root: Sequence[str] = ()) -> None:
        self.path, self.root = path, tuple(root)
        table: Any
        self._text, table = table_of(path)
        for key in self.root:
            table = table.get(key, {}) if isinstance(table, dict) else table
        self.table: Mapping[str, Any] = table
        try:
            self.data = msgspec.convert(table, form)
        except msgspec.ValidationError as error:
            from .faults import fault  # its imports take longer than reading a valid file

            place, sentence = fault(table, form, ".".join(self.root) or "the file") or ((), str(error))
            self.fail(place, sentence, error)

    @cached_property
    def positions(self) -> Positions:
        """The lines of the file's entries."""
        from .positions import Positions  # only errors and tests need lines

        return Positions(self._text)

    def line(self, place: Place) -> int:
        """The line where an entry begins."""
        return self.positions.line((*self.root, *place))

    def fail(self, place: Place, message: str, cause: Exception | None = None) -> NoReturn:
        """Refuses the file, with the line of an entry.

        Raises:
            RuleError: always.
        """
        raise RuleError(f"{self.path}:{self.line(place)}: {message}") from cause

    def read(self, place: Place, parse: Callable[..., T], *args: Any, **options: Any) -> T:
        """The result of `parse(*args, **options)`, which reads the entry at `place`.

        Raises:
            RuleError: `parse` raised one; file and line are added to the message.
        """
        try:
            return parse(*args, **options)
        except TextError as error:
            if error.line is None:
                self.fail(place, str(error), error)
            line = self.positions.line_inside((*self.root, *place), error.line)
            raise RuleError(f"{self.path}:{line}: {error}") from error
        except RuleError as error:
            self.fail(place, str(error), error)
