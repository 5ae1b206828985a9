"""`TomlFile`: a TOML file read into a typed form, and errors that name file, line and what to write."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

import msgspec

from ..errors import RuleError, reason
from .place import Place

if TYPE_CHECKING:
    from .positions import Positions

T = TypeVar("T")
F = TypeVar("F", bound=msgspec.Struct)


class TextError(RuleError):
    """What an entry of the file says is wrong; `line` counts in the entry's own text, from 0, where it is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class TomlFile(Generic[F]):
    """A TOML file, or one table of it, as a typed form.

    Attributes:
        path: the file.
        table: the table as written; it tells which keys are present.
        data: the table as `form`, with defaults for absent keys.

    Args:
        form: a Struct that forbids unknown fields; its field names are the keys.
        root: the keys that lead to the table; an absent one counts as empty.

    Raises:
        RuleError: with file, line, what is wrong and what to write.
    """

    def __init__(self, path: Path, form: type[F], root: Sequence[str] = ()) -> None:
        self.path, self.root = path, tuple(root)
        try:
            self._text = path.read_bytes().decode("utf-8-sig")
            table: Any = tomllib.loads(self._text)
        except (OSError, UnicodeDecodeError) as error:
            raise RuleError(f"{path}: cannot be read: {reason(error)}") from error
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"line (\d+)", str(error))
            line = int(found[1]) if found else self._text.count("\n") + 1
            raise RuleError(f"{path}:{line}: this is not valid TOML: {error}") from error
        except RecursionError as error:
            raise RuleError(f"{path}: this is not valid TOML: its arrays or tables are nested too deeply") from error
        for key in self.root:
            table = table.get(key, {}) if isinstance(table, dict) else table
        self.table: Mapping[str, Any] = table
        try:
            self.data = msgspec.convert(table, form)
        except msgspec.ValidationError as error:
            from .faults import fault  # what it imports takes longer than reading a file that is right

            place, sentence = fault(table, form, ".".join(self.root) or "the file") or ((), str(error))
            self.fail(place, sentence, error)

    @cached_property
    def positions(self) -> Positions:
        """The lines of the file's entries."""
        from .positions import Positions  # needed only where an error or a test names a line

        return Positions(self._text)

    def line(self, place: Place) -> int:
        """The line where an entry begins."""
        return self.positions.line((*self.root, *place))

    def fail(self, place: Place, message: str, cause: Exception | None = None) -> NoReturn:
        """Refuses the file.

        Raises:
            RuleError: always.
        """
        raise RuleError(f"{self.path}:{self.line(place)}: {message}") from cause

    def read(self, place: Place, parse: Callable[..., T], *args: Any, **options: Any) -> T:
        """`parse(*args, **options)`, what the entry at `place` says.

        Raises:
            RuleError: it raised one; the message then says where in the file.
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
