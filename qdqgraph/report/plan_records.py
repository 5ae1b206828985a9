"""Records of plans, and of two models, for `records`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True)
class DifferencesRecord:
    """The output of `qdqgraph diff --json`: how the quantization of two models differs."""

    a: str
    b: str
    equal: bool
    differences: Annotated[
        tuple[str, ...], Meta(description='For reading: "+" and "-" for pairs, "~" for scales and consumers.')
    ]


@dataclass(frozen=True)
class AppliedRecord:
    """The output of `qdqgraph apply --json` and `undo --json`."""

    plan: str
    file: Annotated[str, Meta(description="The model that was read.")]
    written: str
    result_sha256: Annotated[str, Meta(description="Of the written model, as in plans.")]
    notes: Annotated[tuple[str, ...], Meta(description="What to know of the written file; stderr has them too.")]
