"""`Sensitivity`: what the units of a model gain in float, or cost alone, as a file that a later run continues."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ...documents import document, other_version
from ...errors import ModelError, counted, field_fault, reason
from ...model import kinds
from ...model.recognized import mistaken
from . import By
from .levels import Level

Mode = Literal["off", "on", "both"]
"""How units are switched: one in float and the rest quantized, one quantized and the rest in float, or both."""


@dataclass(frozen=True)
class UnitRow:
    """One unit: layers that are switched together, and what that changes."""

    name: Annotated[str, Meta(description="The group's anchor or first site; of a block or layer its output tensor.")]
    layers: Annotated[
        tuple[str, ...],
        Meta(description="Its nodes, by output tensor, as `strip --nodes` takes them."),
    ]
    nodes: Annotated[tuple[str, ...], Meta(description="Their names; of nodes without a name operator and output.")]
    sites: Annotated[tuple[str, ...], Meta(description="The tensors that their pairs quantize, without weights.")]
    bytes: Annotated[
        int,
        Meta(
            description="Bytes of activations per run that its INT8 saves: the forecast without its pairs minus the "
            "forecast of the model."
        ),
    ]
    gain: Annotated[
        float | None,
        Meta(
            description="With the unit in float and the rest quantized: the change of the score, or without --eval of "
            "the mean SQNR in dB. Null with --mode on."
        ),
    ]
    cost: Annotated[
        float | None,
        Meta(
            description="With only the unit quantized: the loss of score, or without --eval its noise as a share of "
            "the quantized model's, the mean over outputs. Null with --mode off."
        ),
    ]
    off: Annotated[Level | None, Meta(description="The unit in float, the rest quantized.")]
    on: Annotated[Level | None, Meta(description="The unit quantized, the rest in float.")]

    @property
    def worth(self) -> float:
        """What it is ranked by: the gain if it is known, else the cost."""
        found = self.cost if self.gain is None else self.gain
        assert found is not None
        return found


@dataclass(frozen=True)
class Asked:
    """What a ranking is of; a run continues only a file with the same values."""

    model: Annotated[str, Meta(description="sha256 of the nodes and constants of the model.")]
    network: Annotated[str, Meta(description="sha256 of the float network: other with another --reference.")]
    samples: Annotated[str, Meta(description='sha256 of the samples; "" without samples.')]
    score: Annotated[str, Meta(description='The function of --eval, and sha256 of its file; "" without --eval.')]
    by: By
    mode: Mode
    target: str
    provider: str


@dataclass(frozen=True)
class Sensitivity:
    """The units of a model, worst first: the most gain, else the most cost. The output of `sensitivity --json`, and its
    file."""

    file: str
    asked: Asked
    data: Annotated[str, Meta(description="Where the samples come from.")]
    samples: int
    quantized: Level
    unquantized: Annotated[Level, Meta(description="The float network: no noise, and its score.")]
    total: Annotated[int, Meta(description="The number of units; fewer are listed while a run is not complete.")]
    units: tuple[UnitRow, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        first = f", worst {self.units[0].name!r} with {self.units[0].worth:+.4g}" if self.units else ""
        return f"<Sensitivity {self.file!r}: {len(self.units)} of {counted(self.total, self.asked.by)}{first}>"

    @property
    def complete(self) -> bool:
        """Whether every unit was measured."""
        return len(self.units) == self.total

    def to_json(self) -> str:
        """The ranking as JSON in ASCII."""
        return document("sensitivity", json.loads(msgspec.json.encode(self))) + "\n"

    @classmethod
    def read(cls, path: Path) -> Sensitivity:
        """Reads a file that `sensitivity` wrote.

        Raises:
            ModelError: it cannot be read, or is no such file.
        """
        try:
            content = msgspec.json.decode(path.read_bytes())
            if other := other_version(content, "sensitivity"):
                raise ModelError(f"{path} is of another version of qdqgraph: {other}")
            return msgspec.convert(content, cls)
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {reason(error)}") from error
        except (msgspec.MsgspecError, RecursionError) as error:  # also of its fields
            other = mistaken(path, "a file of qdqgraph sensitivity", accepts=(kinds.RANKING, kinds.JSON, kinds.TEXT))
            fault = f": {other}" if other else f" is not a file of `qdqgraph sensitivity`: {field_fault(error)}"
            raise ModelError(f"{path}{fault}") from error

    def worst(self, top: int | None = None, least: float | None = None) -> tuple[UnitRow, ...]:
        """The first units; without those whose layers are all in earlier ones.

        Args:
            top: at most so many; None for all.
            least: only units that gain at least this, in dB or in the score.

        Raises:
            ModelError: the ranking is not complete, `top` is below 1, there is no gain in the ranking to compare with
                `least`, or no unit is left.
        """
        if not self.complete:
            left = counted(self.total - len(self.units), "unit")
            raise ModelError(f"the ranking is not complete, {left} are missing: run the same sensitivity command again")
        if top is not None and top < 1:
            raise ModelError(f"top {top}: give the number of units, 1 or more")
        if least is not None and self.asked.mode == "on":
            raise ModelError("the ranking was made with --mode on, which measures no gain: leave out the least gain")
        found: list[UnitRow] = []
        taken: set[str] = set()
        for unit in self.units:
            if (least is None or unit.worth >= least) and not taken.issuperset(unit.layers):
                found.append(unit)
                taken.update(unit.layers)
        if not found:
            best = max((u.worth for u in self.units), default=0.0)
            raise ModelError(f"no unit gains {least:g} or more; the most is {best:.3g}")
        return tuple(found[:top])


def ranked(rows: tuple[UnitRow, ...]) -> tuple[UnitRow, ...]:
    """The rows, worst first."""
    return tuple(sorted(rows, key=lambda row: (-row.worth, row.layers)))
