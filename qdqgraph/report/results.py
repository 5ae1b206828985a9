"""`Result`: what `fix`, `quantize` and `strip` return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from ..engines.share import Int8Share
from ..errors import counted
from ..fp16 import Fp16Model
from ..repair.repair import Repair
from ..verify.verification import Verification

if TYPE_CHECKING:
    from rich.console import Console

    from ..engines.builders.prove import Proof
    from .histograms import Values


@dataclass(frozen=True, repr=False)
class Result(Repair):
    """The result of `fix`, `quantize` or `strip`; see `Repair` for the other attributes.

    Attributes:
        numbers: the agreement of the outputs with the original model; None without `numerics`.
        fp16: the FP16 conversion; None without `fp16`.
        engines: the engines before and after the repair; None without `verify`.
        int8: what runs in INT8 before and after the repair, by the forecast; None for `strip`.
        notes: notes for the user, one sentence each.
        values: what data show of the sites, by name, as far as the repair counted it; empty without data.
        file: the model, as it was given; "model.onnx" for one in memory.
        written: the file that was written; None if none was.
    """

    numbers: Verification | None = None
    fp16: Fp16Model | None = None
    engines: Proof | None = None
    int8: tuple[Int8Share, Int8Share] | None = None
    notes: tuple[str, ...] = ()
    values: Mapping[str, Values] = field(default_factory=dict)
    file: str = "model.onnx"
    written: str | None = None

    @classmethod
    def of(cls, repair: Repair, **more: Any) -> Result:
        """Returns a repair with the results of the later steps, and without what only these need."""
        from .histograms import counted as values  # numpy and calibration, which only a repair needs

        own = {
            f.name: getattr(repair, f.name) for f in fields(Repair) if f.name not in ("measured", "legal", "accepted")
        }
        return cls(**own, **{"values": values(repair.measured), **more})

    def summary(self) -> str:
        """The text of `qdqgraph fix`."""
        from . import text  # each way of showing a result loads what it needs
        from .notebook import plain
        from .screens import fixing as screen
        from .summary import fixing

        found = fixing.summary(self.file, self.written, None, self)

        def show(console: Console) -> None:
            screen.show(console, found, self, screen.Detail.NORMAL)
            text.show_more(console, self.file, self)
            screen.show_written(console, found, dry=False)

        return plain(show)

    def to_json(self) -> str:
        """The document of `qdqgraph fix --json`; its schema is `report/schemas/result.schema.json`."""
        from .records import result_json

        return result_json(self.file, self.written, self)

    def __repr__(self) -> str:
        found = f"{counted(len(self.applied), 'finding')} repaired, {len(self.left)} left, {self.plan!r}"
        share = "" if self.int8 is None else f"; {self.int8[0].int8} -> {self.int8[1].int8} weighted layers in INT8"
        return (
            f"<Result {self.file!r}: {found}{share}{'' if self.written is None else f'; written to {self.written!r}'}>"
        )

    def _repr_html_(self) -> str:
        """The model before and after, a figure a row, and what was written."""
        from .notebook import table
        from .summary import fixing

        found = fixing.summary(self.file, self.written, None, self)
        rows = [(row.name, row.before, row.after, row.note) for row in found.rows]
        title = f"{self.file}: {counted(found.count, 'finding')} repaired, {found.remaining} left"
        wrote = "" if self.written is None else f"Wrote {self.written}"
        return table(title, ("", "before", "after", ""), rows, [wrote, *self.notes])
