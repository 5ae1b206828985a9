"""Ties by PyTorch path: a network's fourteen hand-written pairs and their seven groups."""

from pathlib import Path

import onnx
import pytest

from qdqgraph.repair.solver import solve
from qdqgraph.rulekit import Graph
from qdqgraph.rulekit.rule import scan
from qdqgraph.rulekit.text import TextRule
from tests.support.manual_ties import MANUAL, PAIRS
from tests.support.models import build
from tests.support.paths import ROOT

UNTIED = "model.img_backbone.stem.0.conv"


def network() -> onnx.ModelProto:
    """One activation pair for every path, each with a scale of its own, named as the TorchScript exporter names them."""
    paths = sorted({path for pair in PAIRS for path in pair} | {UNTIED})
    scales = ", ".join(f"float k{i} = {{{0.05 + 0.001 * i:.3f}}}" for i in range(len(paths)))
    body = " ".join(f"a{i} = Neg (x) y{i} = t.pair (a{i}, k{i})" for i in range(len(paths)))
    outputs = ", ".join(f"float[1,4,8,8] y{i}" for i in range(len(paths)))
    model = build(f"g (float[1,4,8,8] x) => ({outputs}) <{scales}> {{ {body} }}")
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            path = paths[int(node.input[0][1:])].split(".")
            node.name = "/" + "/".join(path) + "/_input_quantizer/QuantizeLinear"
    return model


@pytest.mark.parametrize("file", [MANUAL, ROOT / "samples" / "rules" / "bev_pairs.toml"], ids=["names", "globs"])
def test_seven_ties_say_what_fourteen_pairs_said(file: Path) -> None:
    graph, rule = Graph(network()), TextRule(file)
    paths = sorted({path for pair in PAIRS for path in pair} | {UNTIED})
    expected: list[set[str]] = []
    for pair in PAIRS:
        joined = [g for g in expected if g & set(pair)]
        expected = [g for g in expected if g not in joined] + [set(pair).union(*joined)]
    solution = solve(graph, scan(graph, [rule]), max_bits_lost=2)
    found = [{paths[int(site[1:])] for site in group.sites} for group in solution.groups]
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected)) and len(found) == 7
    assert not any(UNTIED in group for group in found)
