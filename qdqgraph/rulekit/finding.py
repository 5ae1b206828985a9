"""What a rule reports: a `Finding`, with at most one proposal, a `Tie` or local edits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..proposals.proposal import Proposal


class Severity(Enum):
    """How bad a finding is for the engine."""

    ERROR = "error"
    """TensorRT refuses the graph, or computes something else."""
    WARNING = "warning"
    """The engine builds, and is slower than it could be."""


class Safety(Enum):
    """What applying a repair may change; the test harness runs this promise."""

    EXACT = "exact"
    """Every output stays bit-identical in ONNX Runtime with graph optimizations off."""
    LOSSY = "lossy"
    """Outputs change within quantization noise: a scale or a rounding changes."""
    MANUAL = "manual"
    """Only shown: the repair needs data or a decision that the graph does not hold."""


@dataclass(frozen=True)
class Tie:
    """These sites must end with one scale, or the operator between them requantizes.

    Attributes:
        sites: tensor names; sites without a pair pass the scale on.
        policy: the group's scale, see `qdqgraph.solver`; None leaves the choice to the run.
        max_bits_lost: guard of this tie; None leaves it to the run.
    """

    sites: tuple[str, ...]
    policy: str | None = None
    max_bits_lost: float | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong at one place.

    Attributes:
        code: the rule's code, "QDQ101".
        name: the rule's name, "concat-scales-differ".
        severity: error where TensorRT refuses the graph.
        safety: what applying the proposal may change.
        place: the tensor it is about; unique in the graph, so findings have an order.
        node: the node's label, for people.
        message: what is wrong here, with names and numbers.
        help: what to do.
        cost: bytes of activations a run that the defect keeps from being stored once as INT8; 0 where unknown.
        tie, edits: the proposal, at most one of the two.
        refused: why the proposal is not applied, where the solver or the plan declined it.
        target: the target on which alone it is found; empty where it holds for the target asked for.
    """

    code: str
    name: str
    severity: Severity
    safety: Safety
    place: str
    node: str
    message: str
    help: str = ""
    cost: int = 0
    tie: Tie | None = None
    edits: tuple[Proposal, ...] = ()
    refused: str = ""
    target: str = ""

    @property
    def order(self) -> tuple[str, str, str]:
        """Findings are handled in this order, whatever order the rules ran in."""
        return (self.code, self.place, self.message)

    @property
    def repairable(self) -> bool:
        """Whether a repair is proposed, and not refused."""
        return self.safety is not Safety.MANUAL and not self.refused and (self.tie is not None or bool(self.edits))
