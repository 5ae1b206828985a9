"""Two engines compared: by what their kernels compute, whatever these are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qdqgraph.cli.main import main
from qdqgraph.engines.compare.diff import diff
from qdqgraph.engines.layers import Engine, Layer, Tensor
from qdqgraph.engines.read.saved import open_engine, to_json
from tests.support.paths import DATA, NVIDIA


def kernel(nodes: str, reads: str, writes: str, precision: str = "INT8", cause: str = "") -> Layer:
    """A layer from words: nodes, and tensors that are "name" or "name:precision"."""

    def tensors(words: str) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(n, (1, 8, 4, 4), p or precision, "linear") for n, _, p in (w.partition(":") for w in words.split())
        )

    return Layer(
        nodes or f"{reads}->{writes}", "Kernel", tuple(nodes.split()), (), tensors(reads), tensors(writes), precision, cause  # type: ignore[arg-type]
    )  # fmt: skip


def engine(name: str, *layers: Layer) -> Engine:
    return Engine(name, "test", layers, ("in", "out"))


def test_nvidias_pair_of_engines_shows_what_a_quantized_skip_brings() -> None:
    if not NVIDIA.is_dir():
        pytest.skip("the whole engines are not here")
    found = diff(*(open_engine(NVIDIA / f"{name}.graph.json") for name in ("qat", "qat-residual")))
    before, after = found.totals
    assert (before.reformats, after.reformats) == (12, 3)
    assert len(found.gone) == 11
    assert [x.name for x in found.come] == ["DequantizeLinear_291", "QuantizeLinear_298"]
    assert [x.name for x in found.regrouped[0].b] == ["conv1.weight + QuantizeLinear_7 + Conv_9 + MaxPool_12"]
    assert len(found.regrouped) == 4, "the pool joins its convolution, three downsampling Adds change sides"
    assert not found.lost and not found.added and not found.worse


def test_numbers_that_disagree_between_exports_are_not_believed() -> None:
    """Conv_84 is layer2.0.conv2 in one engine and layer2.0.conv1 in the other."""
    found = diff(*(open_engine(DATA / f"{name}.graph.json") for name in ("qat", "qat-residual")))
    for group in (*found.regrouped, *found.retyped):
        weights = [sorted(n for x in side for n in x.nodes if n.endswith("weight")) for side in (group.a, group.b)]
        assert weights[0] == weights[1]


def test_an_engine_does_not_differ_from_itself() -> None:
    one = open_engine(DATA / "qat.graph.json")
    assert not diff(one, one).different


def test_layers_are_matched_by_nodes_though_names_and_order_differ() -> None:
    a = engine("a", kernel("/c1 /r1", "in", "x"), kernel("/c2", "x", "out"))
    b = engine("b", *(replace(x, name=f"__myl_{i}") for i, x in enumerate(reversed(a.layers))))
    assert diff(a, b).same == 2
    assert not diff(a, b).different


def test_a_kernel_that_splits_is_named_with_its_parts() -> None:
    a = engine("a", kernel("/conv /add /relu", "in x", "out"))
    b = engine("b", kernel("/conv", "in", "t:FP32"), kernel("/add /relu", "t:FP32 x", "out"))
    found = diff(a, b)
    ((group,),) = (found.regrouped,)
    assert [len(group.a), len(group.b)] == [1, 2]
    assert "moves" in found.worse, "the sum between them goes through memory"


def test_a_node_that_one_engine_does_not_name_is_no_difference() -> None:
    a = engine("a", kernel("/conv /relu", "in", "out"))
    b = engine("b", kernel("/conv", "in", "out"))
    assert not diff(a, b).different


def test_precision_layout_and_reformats() -> None:
    a = engine("a", kernel("", "in:FP32", "q", cause="Q/DQ"), kernel("/conv", "q", "out"))
    half = engine("b", kernel("/conv", "in:FP16", "out:FP16", "FP16"))
    found = diff(a, half)
    assert [g.b[0].precision for g in found.retyped] == ["FP16"]
    assert [x.cause for x in found.gone] == ["Q/DQ"]
    turned = [replace(t, layout="CHW32") for t in a.layers[1].inputs]
    wide = replace(a, layers=(a.layers[0], replace(a.layers[1], inputs=tuple(turned))))
    assert len(diff(a, wide).reshaped) == 1


def test_measured_times_decide_which_engine_is_worse() -> None:
    fast = engine("a", replace(kernel("/conv", "in", "out:FP32"), time_ms=1.0))
    slow = engine("b", replace(kernel("/conv", "in", "out"), time_ms=1.5))
    assert diff(fast, slow).worse == "it takes 1.500 ms instead of 1.000"
    assert not diff(slow, fast).worse, "though it moves more bytes"


def test_the_command_exits_1_where_b_is_worse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = str(DATA / "qat.graph.json"), tmp_path / "b.json"
    b.write_text(to_json(open_engine(DATA / "qat-residual.graph.json")))
    assert main(["engine", "diff", a, str(b)]) == 0
    said = capsys.readouterr().out
    assert "[Q/DQ] QuantizeLinear_15: 'inputs' FP16 CHW32 -> 'onnx::DequantizeLinear_140' INT8 CHW32" in said
    assert main(["engine", "diff", str(b), a]) == 1
    assert "qat.graph.json is worse: it takes" in capsys.readouterr().out
    assert main(["engine", "diff", a, str(b), "--json"]) == 0
    assert '"reformats_gone"' in capsys.readouterr().out
