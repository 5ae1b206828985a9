"""One line per layer in detail, as the engine inspector writes it: a build log with detailed profiling verbosity, and
trtexec --dumpLayerInfo.

TensorRT 8.x to 11.x: `Name: …, LayerType: …, Inputs: [ { Name: …, Location: …, Dimensions: […], Format/Datatype: … }],
Outputs: […], ParameterType: …, …, TacticName: …, StreamId: …, Metadata: [ONNX Layer: …]…`. TensorRT-RTX 1.7.1 adds
`Constants: […]` and writes `Datatype` and `Format` of a tensor as two fields. A line becomes a row of the inspector's
JSON, which `layer_info` reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ...errors import EngineError
from ..layers import Layer
from . import formats
from .layer_info import layers_of

BEGIN = "Layers:"
"""The first words of the list in the build log."""
BOTH = "Format/Datatype"
NAME, KIND = "Name: ", ", LayerType: "
"""What begins the line of a layer, and what follows its name."""
TENSORS = r"\[(?P<{}>(?: *\{{.*?\}})?) *\]"
LINE = re.compile(
    rf"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: {TENSORS.format('inputs')}"
    rf"(?:, Constants: {TENSORS.format('constants')})?, Outputs: {TENSORS.format('outputs')}(?:, (?P<rest>.*))?$"
)
TENSOR = re.compile(
    r"\{ ?Name: (?P<name>.*?), (?:Location: \w+, )?Dimensions: \[(?P<dims>[-\d, ]*)\],? ?(?P<more>.*?)"
    r" *\}(?= *(?:, \{|$))"
)
FIELD = re.compile(r", (?=[A-Z][A-Za-z0-9]*: )")
LINEAR = re.compile(r"\((?P<word>[^)]*)\).*")
"""A Format of TensorRT-RTX: a short name, then prose."""


def layers(text: str) -> tuple[Layer, ...]:
    """Returns the layers of the list in a build log.

    Raises:
        EngineError: the text has no such list, or a line has an unknown format.
    """
    start = text.find(BEGIN)
    if start < 0:
        raise EngineError("the build log has no list of layers: was it written with detailed profiling verbosity?")
    rows = []
    for line in text[start + len(BEGIN) :].splitlines():
        if line.startswith("Name: "):
            rows.append(row(line))
        elif rows and not line.strip():
            break  # inputs and outputs of the engine follow
    return layers_of(rows, "the build log")


def is_layer(line: str) -> bool:
    """Returns whether a line describes a layer."""
    begin = line.find(NAME)
    return begin >= 0 and line.find(KIND, begin) > begin


def row(line: str) -> dict[str, Any]:
    """Returns the row of a line; what precedes the name, such as a time, is skipped.

    Raises:
        EngineError: the line has an unknown format.
    """
    found = LINE.match(line[line.find(NAME) :].rstrip().removesuffix(",")) if is_layer(line) else None
    if found is None:
        raise EngineError(f"this line of the layer list has an unknown format: {line[:120]}")
    rest, _, metadata = (found["rest"] or "").partition("Metadata: ")
    constants = [{"Name": t["Name"], "Type": _type(t)} for t in _tensors(found["constants"] or "")]
    return {
        "Name": found["name"],
        "LayerType": found["kind"],
        "Inputs": _tensors(found["inputs"]),
        "Outputs": _tensors(found["outputs"]),
        **({"Constants": constants} if found["constants"] is not None else {}),
        **dict(_field(part) for part in FIELD.split(rest.removesuffix(", ")) if ": " in part),
        "Metadata": metadata.strip(),
    }


def _type(tensor: Mapping[str, Any]) -> str:
    return formats.precision(tensor["Datatype"]) if "Datatype" in tensor else formats.split(tensor.get(BOTH, ""))[0]


def _field(part: str) -> tuple[str, Any]:
    """Returns a field; numbers, lists and objects as JSON has them."""
    key, _, text = part.partition(": ")
    try:
        return key, json.loads(text) if text[:1] in "[{-0123456789" else text
    except ValueError:
        return key, text


def _tensors(text: str) -> list[dict[str, Any]]:
    found = []
    for tensor in TENSOR.finditer(text):
        more = dict(part.partition(": ")[::2] for part in re.split(r", (?=[A-Z][A-Za-z/]*: )", tensor["more"]))
        dims = [int(d) for d in tensor["dims"].replace(" ", "").split(",") if d]
        form = LINEAR.match(more.get("Format", ""))
        kept = {key: more[key] for key in (BOTH, "Datatype", "DataType") if key in more}
        if "Format" in more:
            kept["Format"] = form["word"].strip() if form else more["Format"]
        found.append({"Name": tensor["name"], "Dimensions": dims, **kept})
    return found
