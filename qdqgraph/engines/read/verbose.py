"""The layers that a verbose build log lists after "Engine Layer Information:".

TensorRT 7.x to 8.4: `Layer(CaskConvolution): Conv_9, Tactic: 0x…, a[Int8(1,64,56,56)], b[…] -> c[Int8(1,64,56,56)]`;
7.x with an implicit batch lists dimensions without it. 8.5 to 10.x: `… a (Int8[1,64:32,56,56]) -> c (…)`, with the
vector width of the channels after a colon. A negative or symbolic dimension is dynamic.
"""

from __future__ import annotations

import re
from typing import Any

from ...errors import EngineError

START = re.compile(r"\bLayer\((?P<kind>[^()]+)\): (?P<rest>.*? -> .*)")
BODY = re.compile(r"(?P<name>.*?), Tactic: (?P<tactic>[-\w]+), ?(?P<io>.*)$")
ARROW = re.compile(r"^(?P<inputs>.*?(?:\)\]|\]\)))?,? ?-> (?P<outputs>.*)$")
TENSOR = re.compile(
    r"(?P<name>.+?)(?:\[(?P<old>\w+)\((?P<old_dims>[^()]*)\)\]| \((?P<new>\w+)\[(?P<new_dims>[^\[\]]*)\]\))(?:, |$)"
)
WIDTHS = {"2": "CHW2", "4": "CHW4", "16": "CHW16", "32": "CHW32"}
"""Layouts by the vector width of the channels; 8 is CHW8 or HWC8, so unknown."""


def is_layer(line: str) -> bool:
    """Returns whether a line describes a layer."""
    return START.search(line) is not None


def row(line: str) -> dict[str, Any]:
    """Returns a line as a row of the inspector's JSON; what precedes `Layer(`, such as a time, is skipped.

    Raises:
        EngineError: the line has an unknown format.
    """
    begin = START.search(line.rstrip())
    body = BODY.match(begin["rest"]) if begin else None
    ends = ARROW.match(body["io"]) if body else None
    if begin is None or body is None or ends is None:
        raise EngineError(f"this line of the layer list has an unknown format: {line.strip()[:120]}")
    return {
        "Name": body["name"],
        "LayerType": begin["kind"],
        "Inputs": _tensors(ends["inputs"] or ""),
        "Outputs": _tensors(ends["outputs"]),
        "TacticValue": body["tactic"],
    }


def _tensors(text: str) -> list[dict[str, Any]]:
    found = []
    for tensor in TENSOR.finditer(text.strip()):
        parts = [part.strip() for part in (tensor["old_dims"] or tensor["new_dims"] or "").split(",") if part.strip()]
        widths = [part.partition(":")[2] for part in parts if ":" in part]
        layout = WIDTHS.get(widths[0], "") if widths else ""
        dims = [int(n) if (n := part.partition(":")[0]).isdecimal() else -1 for part in parts]
        kind = tensor["old"] or tensor["new"]
        found.append({"Name": tensor["name"], "Dimensions": dims, "Datatype": kind, "Format": layout})
    return found
