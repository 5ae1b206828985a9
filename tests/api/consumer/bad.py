"""Mistakes of a user, each after the beginning of what `mypy --strict` must say of its first line."""

import qdqgraph

# E: Unexpected keyword argument "tarjet" for "fix"; did you mean "target"?
qdqgraph.fix("model.onnx", tarjet="trt-10")
# E: Unexpected keyword argument "max_bit_lost" for "fix"; did you mean "max_bits_lost"?
qdqgraph.fix("model.onnx", max_bit_lost=1.0)
# E: Unexpected keyword argument "outptu" for "fix"; did you mean "output"?
qdqgraph.fix("model.onnx", outptu="out.onnx")
# E: Argument "max_bits_lost" to "fix" has incompatible type "str"
qdqgraph.fix("model.onnx", max_bits_lost="much")
# E: Argument "weights" to "fix" has incompatible type "Literal['int4']"
qdqgraph.fix("model.onnx", weights="int4")
# E: Argument "also" to "fix" has incompatible type "tuple[str, int]"
qdqgraph.fix("model.onnx", also=("QDQ403", 7))
# E: Unexpected keyword argument "table" for "fix"
qdqgraph.fix("model.onnx", table="a.cache")
# E: Unexpected keyword argument "only" for "check"
qdqgraph.check("model.onnx", only=["a"])
# E: List item 0 has incompatible type "str"; expected "Rule"
qdqgraph.check("model.onnx", ["QDQ101"])
# E: Unexpected keyword argument "exact" for "quantize"
qdqgraph.quantize("model.onnx", exact=True)
# E: Unexpected keyword argument "taget" for "error"; did you mean "target"?
qdqgraph.error("model.onnx", "a.npz", taget="trt-10")
# E: Argument "by" to "sensitivity" has incompatible type "Literal['node']"
qdqgraph.sensitivity("model.onnx", by="node")
# E: Unexpected keyword argument "budget" for "tune"
qdqgraph.tune("model.onnx", "a.npz", budget=25)
# E: Unexpected keyword argument "node" for "strip"; did you mean "nodes"?
qdqgraph.strip("model.onnx", node=["a"])
# E: Module has no attribute "chekc"; maybe "check"?
qdqgraph.chekc("model.onnx")
# E: Incompatible types in assignment (expression has type "Checked"
number: int = qdqgraph.check("model.onnx")
