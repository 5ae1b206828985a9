"""`Device`: a GPU by its datasheet, read from one data file per device with a source per figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...errors import EngineError, unknown
from ...versions import tomllib

FOLDER = Path(__file__).parent / "devices"
NAMES = tuple(sorted(p.stem for p in FOLDER.glob("*.toml")))
DEFAULT = "a100"


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        name: identifier, such as "a100".
        title: name for messages.
        bandwidth: of its memory, in bytes a second.
        peaks: operations a second by precision, without sparsity; a multiplication and an addition are two.
    """

    name: str
    title: str
    bandwidth: float
    peaks: Mapping[str, float]

    @staticmethod
    def named(name: str = DEFAULT) -> Device:
        """Returns the device of that name.

        Raises:
            EngineError: the name is unknown; the message lists the known names.
        """
        if name not in NAMES:
            raise EngineError(unknown("device", name, NAMES))
        return _read(name)

    def peak(self, precision: str) -> float:
        """Operations a second in a precision; FP32's for one that the device does not list."""
        return self.peaks.get(precision, self.peaks["FP32"])


@cache
def _read(name: str) -> Device:
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    peaks = {precision: tera * 1e12 for precision, tera in data["tera_operations"].items() if precision != "source"}
    return Device(name, data["title"], data["memory"]["gigabytes_a_second"] * 1e9, peaks)
