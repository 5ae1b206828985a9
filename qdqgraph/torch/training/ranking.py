"""`Sensitivity`: the cost of each unit's quantization, as a file that a later run reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ...errors import TorchError, reason

Direction = Literal["disable", "enable"]
"""How units are switched: one disabled and the others enabled, or one enabled and the others disabled."""


@dataclass(frozen=True)
class Unit:
    """Layers, or blocks, that are switched together.

    Attributes:
        name: path of the first layer; layers: paths of all of them.
        score: the model's score with the unit switched.
        cost: the cost of the unit's quantization, in units of the score: the gain from disabling only this unit, or the
            loss from enabling only this unit.
    """

    name: str
    layers: tuple[str, ...]
    score: float
    cost: float


@dataclass(frozen=True)
class Sensitivity:
    """Scores of a model with single units switched.

    Attributes:
        direction: "disable": all enabled except one; "enable": all disabled except one.
        model: digest of the model's weights and amax, 16 hexadecimal digits (see `state_digest`).
        quantized: the score with every unit enabled; unquantized: with every unit disabled.
        units: the most expensive first.
        weights: digest without amax, which can be compared before calibration; "" if the file has none.
    """

    direction: Direction
    model: str
    quantized: float
    unquantized: float
    units: tuple[Unit, ...]
    weights: str = ""

    def to_json(self) -> str:
        """The result as JSON."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Sensitivity:
        """Reads what `to_json` wrote.

        Raises:
            TorchError: the text is not such JSON.
        """
        try:
            data = json.loads(text)
            units = [Unit(u["name"], tuple(u["layers"]), float(u["score"]), float(u["cost"])) for u in data["units"]]
            scores = float(data["quantized"]), float(data["unquantized"])
            return cls(data["direction"], str(data["model"]), *scores, tuple(units), str(data.get("weights", "")))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise TorchError(f"this is not a sensitivity result: {type(error).__name__}: {error}") from error

    @classmethod
    def read(cls, path: Path) -> Sensitivity:
        """Reads a file that `sensitivity` wrote.

        Raises:
            TorchError: it cannot be read, or is not such a file.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise TorchError(f"{path}: cannot be read: {reason(error)}") from error
        except UnicodeDecodeError as error:
            raise TorchError(f"{path}: this is not a sensitivity result: {reason(error)}") from error
        except TorchError as error:
            raise TorchError(f"{path}: {error}") from error

    def to_csv(self) -> str:
        """Rank, unit, layers, score and cost, one unit per line, after a header line."""
        lines = ["rank,unit,layers,score,cost"]
        for rank, u in enumerate(self.units, start=1):
            lines.append(f"{rank},{u.name},{' '.join(u.layers)},{u.score!r},{u.cost!r}")
        return "\n".join(lines) + "\n"
