"""Places named by what users know them by: PyTorch paths, read from what the exporters write."""

import pytest

from qdqgraph.graph.graph import Graph
from qdqgraph.graph.selectors import quantizers
from tests.support.models import build


@pytest.mark.parametrize(
    ("name", "metadata", "path"),
    [
        ("/layer1/layer1.0/conv1/_input_quantizer/QuantizeLinear", "", "layer1.0.conv1._input_quantizer"),
        ("/model.2/m.0/cv1/conv/_input_quantizer/QuantizeLinear", "", "model.2.m.0.cv1.conv._input_quantizer"),
        ("node_7", "['', 'a', 'a.0', 'a.0._input_quantizer', 'fake_quantize_2']", "a.0._input_quantizer"),
        ("node_7", "['', 'm.2', 'm.2.0', 'conv', 'conv._input_quantizer', 'f']", "m.2.0.conv._input_quantizer"),
        ("node_7", "no list", ""),
        ("Quantize_3", "", ""),
    ],
)
def test_pytorch_paths_are_read_from_both_exporters(name: str, metadata: str, path: str) -> None:
    model = build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }")
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    node.name = name
    if metadata:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=metadata)
    assert quantizers(Graph(model)) == ({path: ("x",)} if path else {})
