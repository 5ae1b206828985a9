"""What a rule reports: a `Finding`, with at most one proposal, a `Tie` or local edits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ..printable import printable

if TYPE_CHECKING:
    from ..proposals.proposal import Proposal


class Severity(Enum):
    """The effect of a defect on the engine."""

    ERROR = "error"
    """TensorRT refuses the graph, or computes something else."""
    WARNING = "warning"
    """The engine builds, but is slower than possible."""


class Safety(Enum):
    """What applying a repair may change; the test harness checks it."""

    EXACT = "exact"
    """Every output stays bit-identical in ONNX Runtime with graph optimizations off."""
    LOSSY = "lossy"
    """Outputs change within quantization noise: a scale or a rounding changes."""
    MANUAL = "manual"
    """Reported only: the repair needs data or a decision that the graph does not contain."""


@dataclass(frozen=True)
class Tie:
    """The proposal that these sites get one scale; otherwise the operator between them requantizes.

    Attributes:
        sites: tensor names; sites without a pair pass the scale on.
        policy: how the group's scale is chosen, see `qdqgraph.rulekit.policy`; None for the policy of the run.
        max_bits_lost: limit of this tie in bits; None for the limit of the run.
    """

    sites: tuple[str, ...]
    policy: str | None = None
    max_bits_lost: float | None = None


@dataclass(frozen=True)
class Finding:
    """One defect at one place.

    Figures are fields that reporters print, so `message` and `help` do not contain them.

    Attributes:
        code: the rule's code, "QDQ101".
        name: the rule's name, "concat-scales-differ".
        severity: error if TensorRT refuses the graph, or computes something else.
        safety: what applying the proposal may change.
        place: the name of the tensor it is about; with `code` it is the finding's identity.
        node: the node's label, for messages.
        message: what is wrong here, with names.
        help: what to do.
        bytes: bytes of activations that the defect costs in one run of the network: the rule's estimate, or the count
            of a forecast, set by `qdqgraph.engines.forecast.cost.priced`; 0 if unknown.
        bits_lost: the largest loss of resolution among the scales that the repair changes, log2(new scale / own scale)
            in bits, never negative; for a refused repair, the refused loss. None if it changes no scale.
        tie, edits: the proposal, at most one of the two.
        refused: why the solver or the plan does not apply the proposal; empty if it is not refused.
        target: the only target with this finding; empty if the requested target has it.
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

    def __repr__(self) -> str:
        return f"<Finding {self.code} at {self.place!r}: {printable(self.message)}>"

    @property
    def identity(self) -> tuple[str, str]:
        """Code and place: equal for the same finding in two scans, whatever its message and figures.

        Rules report each place once. If a rule does not, all its findings are kept; they share an identity and are
        ordered by message.
        """
        return (self.code, self.place)

    @property
    def order(self) -> tuple[str, str, str]:
        """The sort key of findings: independent of the order of the rules."""
        return (*self.identity, self.message)

    @property
    def repairable(self) -> bool:
        """Whether it has a proposal that may be applied and is not refused."""
        return self.safety is not Safety.MANUAL and not self.refused and (self.tie is not None or bool(self.edits))

    @property
    def price(self) -> str:
        """`bytes` as text; empty if unknown."""
        return f"costs {self.bytes:,} bytes a run" if self.bytes else ""

    @property
    def loss(self) -> str:
        """`bits_lost` as text; empty if the repair changes no scale."""
        return "" if self.bits_lost is None else f"loses {self.bits_lost:.2f} bits of resolution"

    @property
    def advice(self) -> str:
        """What to do and what it loses, or why the repair is refused; empty if there is neither."""
        return self.refused or "; ".join(filter(None, (self.help, self.loss)))
