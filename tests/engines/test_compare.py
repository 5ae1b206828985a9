"""Two engines compared: by what their kernels compute, whatever these are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from qdqgraph.cli.main import main
from qdqgraph.engines.compare.aliases import aliases
from qdqgraph.engines.compare.diff import diff
from qdqgraph.engines.layers import NO_ENGINE, Engine, Layer, Tensor
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
    assert len(found.reformats_removed) == 10
    assert [x.name for x in found.reformats_added] == ["DequantizeLinear_291"], (
        "the Q of the average is in both, with other numbers"
    )
    assert [(g.a[0].name, g.b[0].name) for g in found.reformats_changed] == [
        ("QuantizeLinear_250", "QuantizeLinear_298")
    ]
    assert [x.name for x in found.fused_differently[0].b] == ["conv1.weight + QuantizeLinear_7 + Conv_9 + MaxPool_12"]
    assert len(found.fused_differently) == 4, "the pool joins its convolution, three downsampling Adds change sides"
    assert not found.only_a and not found.only_b and not found.worse


def test_numbers_that_disagree_between_exports_are_not_believed() -> None:
    """Conv_84 is layer2.0.conv2 in one engine and layer2.0.conv1 in the other."""
    found = diff(*(open_engine(DATA / f"{name}.graph.json") for name in ("qat", "qat-residual")))
    for group in (*found.fused_differently, *found.precision_changed):
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
    ((group,),) = (found.fused_differently,)
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
    assert [g.b[0].precision for g in found.precision_changed] == ["FP16"]
    assert [x.cause for x in found.reformats_removed] == ["Q/DQ"]
    turned = [replace(t, layout="CHW32") for t in a.layers[1].inputs]
    wide = replace(a, layers=(a.layers[0], replace(a.layers[1], inputs=tuple(turned))))
    assert len(diff(a, wide).layout_changed) == 1


def test_measured_times_decide_which_engine_is_worse() -> None:
    fast = engine("a", replace(kernel("/conv", "in", "out:FP32"), time_ms=1.0))
    slow = engine("b", replace(kernel("/conv", "in", "out"), time_ms=1.5))
    assert diff(fast, slow).worse == "it takes 1.500 ms instead of 1.000 (+50.0 %)"
    assert not diff(slow, fast).worse, "though it moves more bytes"
    assert diff(slow, fast).verdict == (-1, "it takes 1.000 ms instead of 1.500 (-33.3 %)")


def skips(name: str, numbers: list[int], *gone: int) -> Engine:
    """A row of convolutions with a Q between each two, and a copy at its end; names are numbers of one export."""
    layers = [kernel("", "in:FP32", f"{numbers[0]}", cause="Q/DQ")]
    for i, number in enumerate(numbers):
        layers.append(kernel(f"w{i}", f"{number}", f"f{number}:FP16"))
        if i not in gone and i + 1 < len(numbers):
            layers.append(kernel("", f"f{number}:FP16", f"{numbers[i + 1]}", cause="Q/DQ"))
        elif i + 1 < len(numbers):
            layers[-1] = kernel(f"w{i}", f"{number}", f"{numbers[i + 1]}")
    return engine(name, *layers, kernel("", f"f{numbers[-1]}:FP16", "out:FP16", cause="layout"))


def test_reformats_are_matched_by_the_kernels_that_they_join() -> None:
    """As in NVIDIA's two MobileNets: 18 and 3 reformats, of which 3 are in both, with other numbers."""
    found = diff(skips("a", [10, 20, 30, 40]), skips("b", [11, 22, 33, 44], 0, 2))
    assert len(found.reformats_removed) == 2 and not found.reformats_added and not found.reformats_changed
    assert [x.inputs[0].name for x in found.reformats_removed] == ["f10", "f30"]


def test_a_reformat_between_the_same_kernels_that_converts_something_else_is_neither_gone_nor_new() -> None:
    row = skips("a", [1, 2])
    copy = replace(
        row.layers[2], cause="type", precision="FP32", outputs=(Tensor("2", (1, 8, 4, 4), "FP32", "linear"),)
    )
    other = replace(row, name="b", layers=(*row.layers[:2], copy, *row.layers[3:]))
    found = diff(row, other)
    assert not found.reformats_removed and not found.reformats_added
    assert [(g.a[0].cause, g.b[0].cause) for g in found.reformats_changed] == [("Q/DQ", "type")]


def test_two_reformats_in_a_row_join_the_same_kernels_as_one() -> None:
    one = engine("a", kernel("/a", "in", "x"), kernel("", "x", "y", cause="layout"), kernel("/b", "y", "out"))
    two = (kernel("", "x", "t", cause="layout"), kernel("", "t", "y", cause="layout"))
    assert len(diff(one, engine("b", one.layers[0], *two, one.layers[2])).reformats_added) == 1


def test_reformats_without_tensors_are_matched_by_name() -> None:
    bare = [replace(kernel("", "", "", cause="unknown"), name=n) for n in ("copy for /b", "copy for /c")]
    found = diff(engine("a", *bare), engine("b", bare[1]))
    assert [x.name for x in found.reformats_removed] == ["copy for /b"] and not found.reformats_added


def test_layouts_are_compared_where_both_engines_give_them() -> None:
    known = engine("a", kernel("/c", "in", "out"))
    tensors = [replace(t, layout="") for t in known.layers[0].inputs]
    assert not diff(known, engine("b", replace(known.layers[0], inputs=tuple(tensors)))).layout_changed


PATHS = [f"layer{i}.{j}.conv{k}.weight" for i in (1, 2) for j in (0, 1) for k in (1, 2)]


@pytest.mark.parametrize(
    "other",
    [
        lambda n: f"module.{n}",
        lambda n: f"StatefulPartitionedCall/model_1/{n}",
        lambda n: n.replace(".conv", ".quant_conv"),
        lambda n: n.replace(".weight", ".parametrizations.weight"),
        lambda n: n.replace(".conv", ".block.conv"),
        lambda n: f"{n}_quantized",
        lambda n: f"/{n}",
    ],
)
def test_scopes_that_a_framework_adds_are_seen_through(other: Callable[[str], str]) -> None:
    expected = {n: other(n) for n in PATHS}
    assert aliases(PATHS, list(expected.values())) == expected
    assert aliases(list(expected.values()), PATHS) == {b: a for a, b in expected.items()}
    a, b = (
        engine(n, *(kernel(x, f"t{i}", f"t{i + 1}") for i, x in enumerate(p)))
        for n, p in (("a", PATHS), ("b", expected.values()))
    )
    assert diff(a, b).same == len(PATHS)
    assert aliases([f"old.{n}" for n in PATHS], [f"new/{n}" for n in PATHS]) == {f"old.{n}": f"new/{n}" for n in PATHS}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (["/a/Conv", "/b/Conv"], ["/c/Conv", "/d/Conv"]),
        ([n for n in PATHS if n < "layer2"], [n for n in PATHS if n > "layer2"]),
        (["/c1/Conv", "/c2/Conv", "/c3/Conv"], ["/c1/Relu", "/c2/Relu", "/c3/Relu"]),
        (["conv.1", "conv.2", "conv.3"], ["conv.4", "conv.5", "conv.6"]),
        (["/c1", "/c2", "/c3"], ["/c1/Conv", "/c1/Relu", "/c2/Conv", "/c2/Relu", "/c3/Conv", "/c3/Relu"]),
    ],
)
def test_other_nodes_are_no_aliases(a: list[str], b: list[str]) -> None:
    assert aliases(a, b) == {}


def test_nodes_without_a_name_are_called_by_their_output() -> None:
    forecast, built = ["Conv(363)", "Relu(365)", "Conv(y)"], ["node_of_363", "node_of_365", "node_of_z"]
    expected = {"Conv(363)": "node_of_363", "Relu(365)": "node_of_365"}
    assert aliases(forecast, built) == expected
    assert aliases(built, forecast) == {y: x for x, y in expected.items()}


def test_a_shared_name_is_never_an_alias() -> None:
    assert aliases(["x.a.w", "x.b.w", "w"], ["a.w", "b.w", "w"]) == {"x.a.w": "a.w", "x.b.w": "b.w"}


def test_what_costs_most_is_first_and_totals_have_per_cent(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def row(name: str, precision: str) -> Path:
        layers = []
        for i, width in enumerate((8, 64, 16)):
            shapes = [Tensor(n, (1, width, 4, 4), precision, "linear") for n in (f"i{i}", f"o{i}")]
            layers.append(replace(kernel(f"/c{i}", "", "", precision), inputs=(shapes[0],), outputs=(shapes[1],)))
        (tmp_path / name).write_text(to_json(engine(name, *layers)))
        return tmp_path / name

    wide, narrow = row("wide.json", "FP32"), row("narrow.json", "INT8")
    assert [g.a[0].nodes for g in diff(open_engine(wide), open_engine(narrow)).precision_changed] == [
        ("/c1",),
        ("/c2",),
        ("/c0",),
    ]
    assert main(["engine", "diff", str(wide), str(narrow)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "narrow.json is better: it moves 2,816 bytes instead of 11,264 (-75.0 %)"
    assert said[3] == "  change: +0 kernels, +0 reformats, -8,448 bytes (-75.0 %)"
    assert main(["engine", "diff", str(narrow), str(wide)]) == 1
    assert "wide.json is worse: it moves 11,264 bytes instead of 2,816 (+300.0 %)" in capsys.readouterr().out


def test_engines_of_other_shapes_are_not_compared_by_bytes() -> None:
    small = engine("a", kernel("/c1", "in", "out"))
    large = replace(
        small, layers=tuple(replace(x, outputs=(Tensor("out", (9, 8, 4, 4), "INT8"),)) for x in small.layers)
    )
    assert not diff(small, large).worse and not diff(small, large).comparable
    half = replace(large, layers=tuple(replace(x, precision="FP16") for x in large.layers))
    assert diff(small, half).worse == "it computes 0 of the same kernels in INT8 instead of 1"


def test_a_forecast_is_compared_with_an_engine_by_what_it_states() -> None:
    """FP32 in place of FP16 and copies are TensorRT's choice by timing; a Q that is left is not."""
    predicted = replace(engine("a", kernel("/c1", "in", "out:FP16")), source="forecast for trt-10")
    slow = (kernel("", "in", "in2", cause="layout"), kernel("/c1", "in2", "out:FP32"))
    assert not diff(predicted, engine("b", *slow)).worse
    left = diff(predicted, engine("b", kernel("", "x:FP32", "in", cause="Q/DQ"), *slow)).worse
    assert left == "it has 1 reformat by Q and DQ instead of 0"


def test_the_command_exits_1_where_b_is_worse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = str(DATA / "qat.graph.json"), tmp_path / "b.json"
    b.write_text(to_json(open_engine(DATA / "qat-residual.graph.json")))
    assert main(["engine", "diff", a, str(b)]) == 0
    said = capsys.readouterr().out
    assert "[Q/DQ] QuantizeLinear_15: 'inputs' FP16 CHW32 -> 'onnx::DequantizeLinear_140' INT8 CHW32" in said
    assert "Reformats removed: 6, " in said and "  1 more: -v lists all" in said and said.count("\n  [") == 5 + 1 + 1
    assert main(["engine", "diff", a, str(b), "-v"]) == 0
    assert capsys.readouterr().out.count("\n  [") == 6 + 1 + 1, "those removed, added and changed"
    assert main(["engine", "diff", str(b), a]) == 1
    assert "qat.graph.json is worse: it takes" in capsys.readouterr().out
    assert main(["engine", "diff", a, str(b), "--json"]) == 0
    assert '"reformats_removed"' in capsys.readouterr().out


def test_a_model_that_tensorrt_refuses_is_worse_than_one_that_it_accepts_whatever_its_bytes() -> None:
    small, large = kernel("a", "x", "y"), kernel("a", "x:FP32", "y:FP32")
    refused = Engine("m.onnx", "forecast for trt-10", (small,), notes=(f"{NO_ENGINE}: 3 errors",))
    accepted = Engine("fixed.onnx", "forecast for trt-10", (large,))
    assert diff(refused, accepted).verdict == (-1, "TensorRT accepts it and refuses m.onnx")
    assert diff(accepted, refused).worse == "TensorRT refuses it"
    assert diff(refused, refused).worse == ""
