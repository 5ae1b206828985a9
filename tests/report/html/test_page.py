"""The report without a browser: what folds, what the page contains, and that no name of a model acts in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph import api
from qdqgraph.api.accuracy import checked_error
from qdqgraph.engines.compare.diff import diff
from qdqgraph.engines.read.saved import open_engine
from qdqgraph.printable import UNSAFE
from qdqgraph.report.histograms import SHOWN
from qdqgraph.report.html import measured, pages, repairs
from qdqgraph.report.html.boxes import folded
from qdqgraph.report.html.data import Page
from qdqgraph.report.html.render import ASSETS, SCRIPTS, STYLES, embedded, html
from qdqgraph.report.html.scenes import scene
from qdqgraph.report.html.words import short
from qdqgraph.rulekit import Graph
from tests.support.cases import FOLDER, read
from tests.support.models import CONCAT, UNSIGNED, build
from tests.support.paths import DATA
from tests.support.report import check_page, drawn, fix_page, hostile

RESIDUAL = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
    a = t.conv4 (x, s1)  b = Relu (a)  c = t.conv4 (b, s2)  d = Add (c, b)  e = Relu (d)  y = t.conv4 (e, s3) }"""
SILU = """g (float[1,4,8,8] x) => (float[1,256] y, float[1,4,8,8] z) {
    a = t.conv4 (x, s1)  b = Sigmoid (a)  c = Mul (a, b)  y = Flatten (c)  z = t.conv4 (c, s2) }"""
SHAPES = """g (float[1,4,8,8] x) => (float[?,?] y) <int64[1] rest = {-1}, int64 zero = {0}, int64[1] axes = {0}> {
    a = t.conv4 (x, s1)  n = Shape (a)  d = Gather (n, zero)  u = Unsqueeze (d, axes)  k = Concat <axis = 0> (u, rest)
    r = Relu (a)  y = Reshape (r, k) }"""


def boxes(text: str) -> list[str]:
    """The boxes of a graph: "Conv + Relu"."""
    page = check_page(build(text))
    return [" + ".join((box.op, *box.also)) for box in page.views[0].boxes]


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (RESIDUAL, ["input", "Conv + Relu", "Conv", "Add + Relu", "Conv", "output"]),
        (SILU, ["input", "Conv + Sigmoid + Mul + Flatten", "Conv", "output", "output"]),
        (CONCAT, ["input", "input", "Relu", "Conv", "Concat", "Conv", "output", "output"]),
        (SHAPES, ["input", "Conv + Shape + Gather + Unsqueeze + Concat + Relu + Reshape", "output"]),
    ],
    ids=["residual", "two readers of an activation", "concat", "shapes"],
)
def test_pairs_activations_and_data_movement_fold_into_the_layer_before_them(graph: str, expected: list[str]) -> None:
    assert boxes(graph) == expected


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.onnxtxt")), ids=lambda path: path.stem)
def test_every_node_is_in_one_box_and_boxes_have_no_cycle(path: Path) -> None:
    graph = Graph.opened(read(path).model)
    folding = folded(graph)
    inside = [id(node) for box in folding.boxes for node in box.nodes]
    computed = [id(n) for n in graph.nodes() if not graph.is_constant(n.outputs[0].name)]
    assert sorted(inside) == sorted(computed)
    assert all(source < target for source, target, *_ in folding.lines)
    assert len({box.key for box in folding.boxes}) == len(folding.boxes)


def test_a_box_is_the_same_before_and_after_a_repair() -> None:
    before, after = fix_page(build(RESIDUAL)).views
    assert [box.id for box in before.boxes] == [box.id for box in after.boxes]
    names = {box.id: box.op for box in before.boxes}
    skips = [
        [edge.quantized for edge in view.edges if names[edge.target] == "Add" and edge.tensor == "b"]
        for view in (before, after)
    ]
    assert skips == [[False], [True]], "the repair reads the skip through its pair"


def test_a_rewritten_operator_is_the_same_box() -> None:
    before, after = fix_page(qlinear()).views
    assert [b.op for b in before.boxes if not b.end] == ["QLinearConv"]
    (conv,) = [b for b in after.boxes if b.op == "Conv"]
    assert conv.id == next(b.id for b in before.boxes if b.op == "QLinearConv")


def qlinear() -> onnx.ModelProto:
    """A convolution in QLinear format between the quantized input and output."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float s = {0.1}, int8 z = {0}, int8[4,4,1,1] w = {WEIGHTS}> {
        q = QuantizeLinear (x, s, z)  c = QLinearConv (q, s, z, w, s, z, s, z)  y = DequantizeLinear (c, s, z) }"""
    values = np.random.default_rng(0).integers(-100, 100, 16)
    return onnx.parser.parse_model(text.replace("WEIGHTS", ", ".join(map(str, values))))


def test_findings_and_groups_are_at_their_boxes() -> None:
    page = check_page(build(CONCAT))
    names = {box.id: box.op for box in page.views[0].boxes}
    at = {item.code: [names[b] for b in item.boxes] for item in page.findings if item.code == "QDQ101"}
    assert at == {"QDQ101": ["Relu", "input", "Concat"]}
    assert [{names[b] for b in boxes} for boxes in page.views[0].groups] == [{"Relu", "input", "Concat"}]
    assert {rule.code for rule in page.rules} == {item.code for item in page.findings}


def test_a_kernel_is_at_the_boxes_that_it_computes_and_each_is_in_one_row() -> None:
    page = fix_page(build(RESIDUAL))
    engines = page.engines
    assert engines is not None
    for view, side in zip(page.views, engines.sides, strict=True):
        names = {box.id: box.op for box in view.boxes}
        kinds = [[names[b] for b in kernel.boxes] for kernel in side.kernels if not kernel.cause]
        assert ["Conv", "Add"] in kinds or kinds[1:3] == [["Conv"], ["Add"]]
        for box in view.boxes:
            assert box.kernel is None or box.id in side.kernels[box.kernel].boxes
    for number, side in enumerate(engines.sides):
        rows = [index for row in engines.rows for index in (row.a, row.b)[number]]
        assert sorted(rows) == list(range(len(side.kernels)))
    assert {row.mark for row in engines.rows} & {"gone", "types", "fused"}, "the repair changes kernels"


def test_summary_counts_are_those_of_the_findings() -> None:
    page = fix_page(build(CONCAT))
    states = [item.state for item in page.findings]
    assert page.codes is not None
    for row in page.codes.rows:
        mine = [item.state for item in page.findings if item.code == row[0]]
        assert row[2] == len(mine) and row[3] == mine.count("repaired")
    assert page.verdict.text == f"{states.count('repaired')} repaired, {states.count('left')} left"


def test_no_name_of_a_model_is_markup_in_the_page() -> None:
    page = check_page(hostile(build(CONCAT)), name="</title><script>x</script>.onnx")
    text = html(page)
    assert len(re.findall(r"<script\b", text)) == 3 and len(re.findall(r"</script", text)) == 3
    assert "<img" not in text and "<!--" not in text and "onerror=alert(1)>" not in text
    assert not UNSAFE.search(text.replace("\n", ""))
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    shown = json.loads(data[1])
    names = json.dumps(shown, ensure_ascii=False)
    assert "<img src=x onerror=alert(1)>" in names, "the name is there, as text"
    assert not UNSAFE.search(names) and "\\\\u202e" in names


def test_embedded_data_are_the_page() -> None:
    page = check_page(build(CONCAT))
    text = embedded(page)
    assert text.isascii() and not set(text) & set("<>&")
    shown = json.loads(text)
    assert [item["place"] for item in shown["findings"]] == [item.place for item in page.findings]
    assert shown["verdict"]["text"] == page.verdict.text


def test_the_policy_allows_this_script_and_style_and_nothing_else() -> None:
    text = html(check_page(build(CONCAT)))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    policy = policy.replace("&#39;", "'")
    script = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    style = text[text.index("<style>") + len("<style>") : text.index("</style>")]
    for kind, content in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    loaded = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(link == "https://github.com/kieler/elkjs" for link in loaded), "nothing is loaded from elsewhere"


def test_scripts_write_text_only_and_nothing_is_loaded() -> None:
    """A name becomes markup only through these."""
    for name in (*SCRIPTS, *STYLES):
        text = (ASSETS / name).read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|</script", text
        ), name
        assert not re.search(r"\b(fetch|XMLHttpRequest|import)\s*\(|@import|url\((?!#)", text), name


def test_the_same_page_has_the_same_bytes() -> None:
    assert html(fix_page(build(CONCAT))) == html(fix_page(build(CONCAT)))


def test_the_page_of_errors_shows_them_at_their_layers() -> None:
    pytest.importorskip("onnxruntime")
    model = build(RESIDUAL)
    random = np.random.default_rng(0)
    data = [{"x": random.normal(0, 4, (1, 4, 8, 8)).astype(np.float32)} for _ in range(2)]
    found = qdqgraph.error(model, data)
    page = measured.error_page(Path("m.onnx"), found, api.check(model), qdqgraph.rules(), {})
    facts = {box.op: [fact.label for fact in box.facts] for box in page.views[0].boxes if box.facts}
    assert set(facts) <= {"Conv", "Add"} and facts["Conv"][:2] == ["SQNR alone", "SQNR accumulated"]
    (table,) = [table for table in page.tables if table.id == "layers"]
    assert len(table.rows) == len(found.layers) and None not in table.boxes
    assert "decibels" in {column.kind for column in table.columns} and html(page)


def test_the_page_of_engine_numbers_names_their_kernels() -> None:
    pytest.importorskip("onnxruntime")
    model = build(RESIDUAL)
    data = [{"x": np.ones((1, 4, 8, 8), np.float32)}]
    found = qdqgraph.engine_error(model, data, "trt-10")
    page = measured.engine_error_page(Path("m.onnx"), found, api.check(model), qdqgraph.rules())
    assert [row[0] for row in page.tables[0].rows] == [row.kernel for row in found.kernels]
    assert None not in page.tables[0].boxes and html(page)


def test_the_page_of_two_engines_has_their_totals_and_differences() -> None:
    model = build(RESIDUAL)
    found = qdqgraph.compare(qdqgraph.forecast(model), qdqgraph.forecast(qdqgraph.fix(model).model))
    page = pages.diff_page((Path("a"), Path("b")), found)
    assert page.engines is not None and not page.views
    graphs = [drawn(each).graph for each in (model, qdqgraph.fix(model).model)]
    both = pages.diff_page((Path("a"), Path("b")), found, graphs)
    assert [view.title for view in both.views] == ["A", "B"] and both.engines is not None
    assert all(kernel.boxes for side in both.engines.sides for kernel in side.kernels if not kernel.cause)
    assert [side.bytes for side in page.engines.sides] == [totals.bytes for totals in found.totals]
    rows = {row[0]: row[1] for row in page.tables[0].rows}
    assert rows["reformats removed"] == len(found.reformats_removed) and rows["other types"] == len(
        found.precision_changed
    )
    assert page.verdict.tone == "good" and 'id="layout"' not in html(page), "no graph, so no library that places one"


def test_the_page_of_engines_names_the_source_of_their_figures() -> None:
    built = open_engine(DATA / "qat.graph.json"), open_engine(DATA / "qat-residual.graph.json")
    forecasts = [qdqgraph.forecast(build(RESIDUAL))] * 2
    for (a, b), source in ((built, "trtexec"), (forecasts, "forecast for trt-10")):
        notes = {card.label: card.note for card in pages.diff_page((Path("a"), Path("b")), diff(a, b)).cards}
        assert notes["Kernels"].endswith(source) and ("Weighted layers in INT8" in notes) is (a is b)


def test_numbers_of_boxes_are_unique_in_each_graph() -> None:
    model = build(CONCAT)
    both = scene(drawn(model), drawn(qdqgraph.fix(model).model))
    for each in both.drawn:
        numbers = [both.numbers[box.key] for box in each.folding.boxes]
        assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize(
    ("name", "op", "expected"),
    [
        ("/stages/stages.0/conv1/conv/Conv", "Conv", "stages.0/conv1"),
        ("/model.2/cv1/act/Mul", "Mul", "model.2/cv1/act"),
        ("/add/Add_1", "Add", "add"),
        ("Conv_12", "Conv", "Conv_12"),
        ("conv1", "Conv", "conv1"),
        ("/", "Conv", "/"),
    ],
)
def test_short_names_keep_what_distinguishes(name: str, op: str, expected: str) -> None:
    assert short(name, op) == expected


def test_a_page_without_findings_says_so() -> None:
    page: Page = check_page(build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"))
    assert (page.verdict.tone, page.verdict.text[:11], page.codes) == ("good", "No findings", None)


@pytest.mark.parametrize(
    "name", ["20-nan-scale", "34-weight-norm", "47-requantized-weights", "83-integers-cast-and-scaled"]
)
def test_a_finding_at_a_constant_is_at_the_layer_that_reads_it(name: str) -> None:
    page = check_page(read(FOLDER / f"{name}.onnxtxt").model)
    assert page.findings and all(item.box is not None for item in page.findings)


def test_the_page_of_quantize_counts_layers_not_repairs() -> None:
    pytest.importorskip("onnxruntime")
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4,4,1,1] w = {WEIGHTS}> { a = Conv (x, w)  b = Relu (a)  y = Conv (b, w) }"""
    model = onnx.parser.parse_model(text.replace("WEIGHTS", ", ".join(f"{v / 16}" for v in range(16))))
    result = qdqgraph.quantize(model, data=[{"x": np.ones((1, 4, 8, 8), np.float32)}])
    page = repairs.fix_page("quantize", Path("m.onnx"), None, result, qdqgraph.rules(), qdqgraph.Options())
    assert page.verdict.text == "2 of 2 weighted layers quantized, 0 findings left"
    assert "quantize" not in {item.code for item in page.findings}
    assert [box.precision for box in page.views[0].boxes if box.op == "Conv"] == ["FP16"] * 2
    assert [box.precision for box in page.views[1].boxes if box.op == "Conv"] == ["INT8"] * 2


def test_a_repair_on_data_shows_the_values_of_each_quantized_tensor() -> None:
    pytest.importorskip("onnxruntime")
    random = np.random.default_rng(0)
    data = [{"x": random.normal(0, 4, (1, 4, 8, 8)).astype(np.float32)} for _ in range(2)]
    result = qdqgraph.fix(build(RESIDUAL), data=data)
    page = repairs.fix_page("fix", Path("m.onnx"), None, result, qdqgraph.rules(), qdqgraph.Options())
    pairs = [pair for view in page.views for box in view.boxes for pair in box.pairs]
    found = {pair.tensor: pair.values for pair in pairs if pair.kind == "activation"}
    assert {"x", "b", "e"} <= set(found)
    values = np.concatenate([each["x"].reshape(-1) for each in data])
    shown = found["x"]
    assert shown is not None and (shown.low, shown.high) == (values.min(), values.max())
    edges = shown.start + shown.width * np.arange(len(shown.counts) + 1)
    assert list(shown.counts) == list(np.histogram(values, edges)[0]) and len(shown.counts) <= SHOWN


def test_the_page_of_error_shows_the_same_values_as_that_of_the_repair() -> None:
    pytest.importorskip("onnxruntime")
    data = [{"x": np.random.default_rng(seed).normal(0, 4, (1, 4, 8, 8)).astype(np.float32)} for seed in range(2)]
    model, rules, options = build(RESIDUAL), qdqgraph.rules(), qdqgraph.Options()
    found, checked, values = checked_error(
        model,
        data,
        rules,
        options,
        reference=None,
        preprocess=None,
        samples=None,
        evaluate=None,
        memory="2GiB",
        provider="cpu",
        progress=lambda line: None,
        values=True,
    )
    page = measured.error_page(Path("m.onnx"), found, checked, rules, values)
    pairs = [pair for box in page.views[0].boxes for pair in box.pairs if pair.kind == "activation"]
    assert pairs and {pair.tensor: pair.values for pair in pairs} == {
        pair.tensor: qdqgraph.fix(model, data=data).values[pair.tensor] for pair in pairs
    }


def test_the_range_of_a_pair_has_its_zero_point() -> None:
    (view,) = check_page(build(UNSIGNED.replace("uint8 z = {0}", "uint8 z = {100}"))).views
    (pair,) = (pair for box in view.boxes for pair in box.pairs if pair.kind == "activation")
    assert pair.range == pytest.approx((-10.0, 15.5))
