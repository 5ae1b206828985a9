"""How a model was quantized and calibrated: kept with the model, and in its saved state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import nn

from ...errors import TorchError

ATTRIBUTE = "_qdqgraph_provenance"
"""The attribute of a model that contains it."""


@dataclass(frozen=True)
class Provenance:
    """How a model was quantized and calibrated.

    Attributes:
        config: the configuration of `quantize` as plain data; functions are replaced by the paths that they selected.
            None: `quantize` did not run.
        calibrated: whether `calibrate` ran; method, percentile, layers, batches: its arguments.
    """

    config: Mapping[str, Any] | None = None
    calibrated: bool = False
    method: str = ""
    percentile: float | None = None
    layers: Mapping[str, str] = field(default_factory=dict)
    batches: int | None = None

    def __str__(self) -> str:
        found = [f"method {self.method or 'of the configuration'}"]
        found += [f"percentile {self.percentile:g}"] if self.percentile is not None else []
        found += [f"{pattern}: {method}" for pattern, method in self.layers.items()]
        return ", ".join([*found, f"{self.batches or 'all'} batches"])

    def plain(self) -> dict[str, Any]:
        """As dictionaries, for `read`."""
        return asdict(self)

    @classmethod
    def read(cls, data: Any) -> Provenance:
        """From what `plain` gave.

        Raises:
            TorchError: it is something else.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise TorchError(f"this does not say how a model was calibrated: {error}") from error


def provenance(model: nn.Module) -> Provenance:
    """How a model was quantized and calibrated, as far as it is known."""
    found = getattr(model, ATTRIBUTE, None)
    return found if isinstance(found, Provenance) else Provenance()


def remember(model: nn.Module, **changes: Any) -> None:
    """Replaces entries of a model's provenance, in place."""
    object.__setattr__(model, ATTRIBUTE, replace(provenance(model), **changes))
