"""Text rules of tests: where one matches, and its repair."""

from collections.abc import Callable
from pathlib import Path

import onnx

import qdqgraph
from qdqgraph import Options, Result
from qdqgraph.calibration.noise import noise
from qdqgraph.rulekit import Graph
from qdqgraph.rulekit.text import TextRule
from qdqgraph.verify.comparison import compare

HEAD = """code = "MY201"
name = "my-rule"
summary = "Something is wrong."
why = "TensorRT."
source = ["measured"]
"""


Load = Callable[[str], TextRule]


def places(rule: TextRule, model: onnx.ModelProto) -> list[str]:
    return [f.place for f in rule.find(Graph(model))]


def applied(rule: TextRule, model: onnx.ModelProto, *, exact: bool = True) -> Result:
    """The repair by one rule; checked for a valid model, an exact undo, and the same numbers where that is promised."""
    before = model.SerializeToString()
    result = qdqgraph.fix(model, [rule], Options())
    onnx.checker.check_model(result.model, full_check=True)
    assert model.SerializeToString() == before
    assert result.plan.inverse().apply(result.model).SerializeToString() == before
    if exact:
        assert all(a.identical for a in compare(model, result.model, noise(model, 2), Path()).values())
    return result


def ops(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node]
