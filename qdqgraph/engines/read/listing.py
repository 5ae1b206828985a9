"""The layer list that TensorRT-RTX writes into its build log, which needs neither a GPU nor a driver.

One line per layer: `Name: …, LayerType: …, Inputs: [ { Name: …, Dimensions: […], …, Datatype: Int8, Format: … } ],
Constants: [ … ], Outputs: [ … ], TacticName: …, StreamId: …, Metadata: [ONNX Layer: …]…`. Seen in TensorRT-RTX 1.7.1.
"""

from __future__ import annotations

import re

from ...errors import EngineError
from ..layers import Layer, Tensor
from . import formats, names
from .layer_info import settled_all

BEGIN = "Layers:"
"""The first words of the message in the build log."""
LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>.*?), StreamId: (?P<stream>-?\d+)"
    r"(?:, (?!Metadata)\w+: [^,]*)*(?:, Metadata: ?(?P<metadata>.*))?$"
)
TENSOR = re.compile(r"\{ Name: (.*?), Dimensions: \[([-\d,]*)\](.*?)Datatype: (\w+), Format: (.*?) \}")
LAYOUT = re.compile(r"\(([^)]*)\)")


def layers(text: str) -> tuple[Layer, ...]:
    """The layers of a list.

    Raises:
        EngineError: the text has no such list, or a line has an unknown format.
    """
    start = text.find(BEGIN)
    if start < 0:
        raise EngineError("the build log has no list of layers: was it written with detailed profiling verbosity?")
    found: list[Layer] = []
    for line in text[start + len(BEGIN) :].splitlines():
        if line.startswith("Name: "):
            found.append(_layer(line))
        elif found and not line.strip():
            break  # inputs and outputs of the engine follow
    return settled_all(found)


def _layer(line: str) -> Layer:
    found = LINE.match(line.rstrip().removesuffix(","))
    if found is None:
        raise EngineError(f"this line of the layer list has an unknown format: {line[:120]}")
    nodes, quantizers = names.of_layer(found["name"], found["metadata"] or "")
    return Layer(
        name=found["name"],
        kind=found["kind"],
        nodes=nodes,
        quantizers=quantizers,
        inputs=_tensors(found["inputs"]),
        outputs=_tensors(found["outputs"]),
        tactic=found["tactic"],
        fields={"Constants": [{"Name": t.name, "Type": t.precision} for t in _tensors(found["constants"])]},
    )


def _tensors(text: str) -> tuple[Tensor, ...]:
    found = []
    for name, dims, _, kind, form in TENSOR.findall(text):
        layout = LAYOUT.match(form)
        word = layout[1].strip() if layout else form
        known = tuple(int(d) for d in dims.split(",") if d)
        found.append(Tensor(name, known, formats.precision(kind), "linear" if word == "Linear" else word))
    return tuple(found)
