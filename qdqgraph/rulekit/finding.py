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

    Every figure is a field; reporters print it from there, so that `message` and `help` hold none of these numbers.

    Attributes:
        code: the rule's code, "QDQ101".
        name: the rule's name, "concat-scales-differ".
        severity: error where TensorRT refuses the graph.
        safety: what applying the proposal may change.
        place: the name of the tensor it is about; with `code` it is the finding's identity.
        node: the node's label, for people.
        message: what is wrong here, with names.
        help: what to do.
        bytes: bytes of activations that the defect costs in one run of the network: as the rule estimates them, or,
            once `qdqgraph.engines.forecast.cost.priced` has seen the finding, as a forecast counts them; 0 where
            unknown.
        bits_lost: the largest loss of resolution among the scales that the repair changes, log2(new scale / own scale)
            in bits, never negative; of a refused repair, the loss that was refused. None where it changes no scale.
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
    bytes: int = 0
    bits_lost: float | None = None
    tie: Tie | None = None
    edits: tuple[Proposal, ...] = ()
    refused: str = ""
    target: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """Code and place: the same finding in two scans, whatever its message and its figures say there.

        Rules report each place once. Where a rule does not, none of its findings is dropped: they share an identity and
        are ordered by message.
        """
        return (self.code, self.place)

    @property
    def order(self) -> tuple[str, str, str]:
        """Findings are handled in this order, whatever order the rules ran in."""
        return (*self.identity, self.message)

    @property
    def repairable(self) -> bool:
        """Whether a repair is proposed, and not refused."""
        return self.safety is not Safety.MANUAL and not self.refused and (self.tie is not None or bool(self.edits))

    @property
    def price(self) -> str:
        """`bytes` in words; empty where unknown."""
        return f"costs {self.bytes:,} bytes a run" if self.bytes else ""

    @property
    def loss(self) -> str:
        """`bits_lost` in words; empty where the repair changes no scale."""
        return "" if self.bits_lost is None else f"loses {self.bits_lost:.2f} bits of resolution"

    @property
    def advice(self) -> str:
        """What to do and what it loses, or why the repair is refused; empty where there is nothing to say."""
        return self.refused or "; ".join(filter(None, (self.help, self.loss)))
