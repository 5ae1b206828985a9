"""Forecasts of small networks, and what tests read of their layers."""

from __future__ import annotations

from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.engines.layers import Engine, Layer
from qdqgraph.graph.graph import Graph
from qdqgraph.targets.target import NAMES, Target
from tests.support.models import build as model_of


def forecast_layers(text: str, target: str = "trt-8.6", opset: int = 17) -> tuple[Layer, ...]:
    return forecast(Graph(model_of(text, opset), target=Target.named(target)), "m").layers


def names(layers: tuple[Layer, ...]) -> list[list[str]]:
    """The operators of each layer's nodes; a reformat is a list of its Q and DQ."""
    return [[n.split("(")[0] for n in x.nodes if "(" in n] or [q.split("(")[0] for q in x.quantizers] for x in layers]


def types(layer: Layer) -> str:
    return "+".join(t.precision for t in layer.inputs) + " -> " + "+".join(t.precision for t in layer.outputs)


def rules(layer: Layer) -> list[str]:
    return [reason.rule for reason in layer.why]


SKIP = """g (float[1,4,16,16] x) => (float[1,4,16,16] y) {{
    a = t.conv4 (x, s1)
    r = Relu (a)
    b = t.conv4 (r, s2)
    k = {}
    c = Add (b, k)
    o = Relu (c)
    y = t.conv4 (o, s3)
}}"""

OLD, NEW = "trt-8.6", [name for name in NAMES if name != "trt-8.6"]


def engine(text: str, target: str = "trt-10", opset: int = 17, *, together: bool = False) -> Engine:
    return forecast(Graph(model_of(text, opset), target=Target.named(target)), "m", together=together)


def kernels(text: str, target: str = "trt-10", opset: int = 17) -> list[str]:
    """One word per node of each kernel, and what it reads and writes; a reformat is its cause."""
    return [said(layer) for layer in engine(text, target, opset).layers]


def said(layer: Layer) -> str:
    nodes = " ".join(n.split("(")[0] for n in layer.nodes if "(" in n) or layer.cause
    read, made = ("+".join(t.precision for t in side) for side in (layer.inputs, layer.outputs))
    return f"{nodes}: {read} -> {made}"


SQUARE = "g (float[1,4,16,16] x) => (float[1,4,16,16] y) {{ {} }}"
LARGER = "g (float[1,4,16,16] x) => (float[1,4,{0},{0}] y) <{1}> {{ {2} }}"
