"""An engineer's fourteen pairs on a network of their structure: through `fix`, and through `link`, `calibrate`, `export`
and `fix`."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import pytest
import torch

import qdqgraph
from qdqgraph.graph.named import named_sites
from qdqgraph.graph.pair import pairs
from qdqgraph.graph.selectors import quantizers
from qdqgraph.rulekit import Graph
from qdqgraph.rulekit.text import TextRule
from qdqgraph.torch import calibrate, export, link, quantize
from qdqgraph.torch.quantizer.quantizer import quantizer_paths
from tests.support.manual_ties import MANUAL, PAIRS
from tests.support.stand_in import IMAGE, StandIn
from tests.support.torch_networks import EXPORTERS, dynamo_or_skip

RULES = [*qdqgraph.rules(), TextRule(MANUAL)]
X = torch.rand(IMAGE, generator=torch.Generator().manual_seed(1))
IMAGES = torch.rand((4, *IMAGE[1:]), generator=torch.Generator().manual_seed(2))


def scales_by_pair(model: onnx.ModelProto) -> list[set[float]]:
    """The scales at the sites of each of the fourteen pairs."""
    graph = Graph(model)

    def scales(path: str) -> set[float]:
        found = {s.tensor for s in named_sites(graph, "quantizers", path)}
        assert found, f"{path} is in the file"
        return {p.value for site in found for p in pairs(graph).at(site)}

    return [scales(a) | scales(b) for a, b in PAIRS]


@pytest.mark.parametrize("dynamo", EXPORTERS)
@pytest.mark.parametrize("quantized", [True, False])
def test_all_pairs_are_tied_through_link_calibrate_export_and_fix(
    quantized: bool, dynamo: bool, tmp_path: Path
) -> None:
    """With the script's own QuantAdds, and with plain operators, whose quantizers `link` adds."""
    dynamo_or_skip(dynamo)
    model = StandIn(quantized).eval()
    quantize(model)
    done = link(model, X, RULES, dynamo=dynamo)
    assert not done.unmapped and not done.left
    calibrate(model, [IMAGES])
    found = quantizer_paths(model)
    enabled = {p for p, q in found.items() if not q._disabled and "_weight_" not in p}
    exported = export(model, X, tmp_path / "m.onnx", dynamo=dynamo, opset=18)
    assert enabled == set(quantizers(Graph(exported))), "every path of a quantizer is a name in the file"
    assert set(done.added) <= enabled
    assert {p for group in done.groups for p in group} <= enabled
    assert all(len({id(found[p]) for p in group}) == 1 for group in done.groups)
    assert not qdqgraph.check(exported, RULES)
    fixed = qdqgraph.fix(exported, RULES).model
    assert [len(scales) for scales in scales_by_pair(fixed)] == [1] * len(PAIRS)
    assert not qdqgraph.check(fixed, RULES)


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_all_pairs_are_tied_by_fix_alone(dynamo: bool, tmp_path: Path) -> None:
    """A file of calibrated quantizers that share nothing: the first round merges pairs that later ties name."""
    dynamo_or_skip(dynamo)
    model = StandIn().eval()
    quantize(model)
    calibrate(model, [IMAGES])
    exported = export(model, X, tmp_path / "m.onnx", dynamo=dynamo, opset=18)
    assert sum(len(scales) > 1 for scales in scales_by_pair(exported)) == len(PAIRS)
    options = qdqgraph.Options(max_bits_lost=math.inf)
    assert "BEV101" in {f.code for f in qdqgraph.check(exported, RULES, options)}
    fixed = qdqgraph.fix(exported, RULES, options).model
    assert [len(scales) for scales in scales_by_pair(fixed)] == [1] * len(PAIRS)
    assert not [f for f in qdqgraph.check(fixed, RULES, options) if f.code == "BEV101"]
