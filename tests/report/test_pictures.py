"""Pictures of engines and of whole Q/DQ graphs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest

from qdqgraph.cli.main import main
from qdqgraph.engines.layers import Engine, Layer, Tensor
from qdqgraph.engines.read.saved import open_engine
from qdqgraph.report.pictures.dot import dot
from qdqgraph.report.pictures.engines import THICK, of_engines
from qdqgraph.report.pictures.layout import places
from qdqgraph.report.pictures.sheet import LOUD, PRECISIONS, Sheet
from qdqgraph.report.pictures.svg import svg
from tests.support import torchscript
from tests.support.models import build as model_of
from tests.support.paths import DATA

SVG = "{http://www.w3.org/2000/svg}"
CONCAT = """g (float[1,4,8,8] x, float[1,4,8,8] v) => (float[1,8,8,8] y) {
    a = t.pair (x, s1)  b = t.pair (v, s2)  y = Concat <axis = 1> (a, b)
}"""
FOLDS = """g (float[1,4,300,300] x) => (float[1,4,300,300] y) {
    c = t.conv4 (x, s1)  s = Sigmoid (c)  m = Mul (c, s)  y = t.conv4 (m, s2)
}"""


def drawn(model: onnx.ModelProto, folder: Path, *options: str, suffix: str = ".svg") -> str:
    """What `draw` writes for a model."""
    onnx.save(model, file := folder / "m.onnx")
    out = (folder / "m").with_suffix(suffix)
    assert main(["draw", str(file), "-o", str(out), "--force", *options]) == 0
    return out.read_text()


def texts(picture: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def size(picture: str) -> tuple[int, int]:
    root = ElementTree.fromstring(picture)
    return int(root.get("width", 0)), int(root.get("height", 0))


def engine_of(*layers: Layer, name: str = "e") -> Engine:
    return Engine(name, "test", layers)


def test_colour_is_precision_and_reformats_are_loud() -> None:
    engine = open_engine(DATA / "qat.graph.json")
    (sheet,) = of_engines([engine])
    fills = [(card.fill, card.loud) for card in sheet.cards]
    assert len(fills) == len(engine.working)
    assert fills.count((LOUD, True)) == len(engine.reformats) == 8
    assert (PRECISIONS["INT8"], False) in fills
    shown = texts(svg([sheet]))
    assert [text for text in shown if text.startswith("reformat: ")].count("reformat: Q/DQ") == 6


def test_wires_are_as_wide_as_what_moves_and_bars_as_long_as_what_is_measured() -> None:
    small, large = Tensor("s", (1, 100), "INT8"), Tensor("l", (1, 10_000), "INT8")
    layers = (
        replace(Layer("a", "K", ("a",), outputs=(small, large)), time_ms=3.0),
        replace(Layer("b", "K", ("b",), inputs=(small,)), time_ms=1.0),
        replace(Layer("c", "K", ("c",), inputs=(large,)), time_ms=1.5),
    )
    (sheet,) = of_engines([engine_of(*layers)], by="time")
    thin, thick = (wire.thick for wire in sheet.wires)
    assert thin < thick == THICK
    assert [card.share for card in sheet.cards] == [1.0, 1 / 3, 0.5]


def test_two_engines_are_side_by_side_with_their_totals_on_one_scale(tmp_path: Path) -> None:
    out = tmp_path / "both.svg"
    graphs = [str(DATA / f"{name}.graph.json") for name in ("qat", "qat-residual")]
    assert main(["engine", "draw", *graphs, "--by", "time", "-o", str(out)]) == 0
    shown = texts(out.read_text())
    assert "qat.graph.json (trtexec)" in shown
    assert "qat-residual.graph.json (trtexec)" in shown
    assert "20 kernels, 503,591,936 bytes a run, 0.773 ms" in shown
    assert "8 reformats (6 × Q/DQ, 1 × type, 1 × layout)" in shown
    assert "3 reformats (3 × Q/DQ)" in shown
    full = [card for sheet in of_engines([*map(open_engine, map(Path, graphs))], "time") for card in sheet.cards]
    assert [card.share for card in full].count(1.0) == 1, "the slowest kernel of both fills its card"


def test_numbers_are_whole_and_long_names_lose_their_beginning() -> None:
    name = "/backbone/stages.11/blocks.22/attention/query_key_value_projection/with_a_name/to_shorten"
    layer = Layer(name, "K", (f"{name}/Conv",), outputs=(Tensor("t", (64, 2048, 999, 999), "FP16"),))
    shown = texts(svg(of_engines([engine_of(replace(layer, time_ms=1234.567))])))
    assert any(text.endswith("64 × 2048 × 999 × 999") for text in shown)
    assert layer.bytes == 2 * 64 * 2048 * 999 * 999
    assert "261,619,974,144 bytes · 1234.567 ms" in shown
    title = next(text for text in shown if text.endswith("to_shorten"))
    assert title.startswith("…")


def test_a_kernel_is_named_by_its_scope_and_not_by_its_weights() -> None:
    nodes = ("stem.0.conv.weight_quantized", "/stem/stem.0/conv/Conv", "/stem/stem.0/act/Sigmoid")
    shown = texts(svg(of_engines([engine_of(Layer(" + ".join(nodes), "Convolution", nodes))])))
    assert "stem.0/conv" in shown
    assert "Conv + Sigmoid · Convolution" in shown


def test_texts_stay_in_their_cards_and_cards_apart(tmp_path: Path) -> None:
    picture = drawn(torchscript.mobilenet_v2(residual=False), tmp_path)
    root = ElementTree.fromstring(picture)
    assert len(texts(picture)) > 150
    cards = []
    for group in root.iter(f"{SVG}g"):
        if (box := group.find(f"{SVG}rect")) is None or group.get("class"):
            continue
        x, y, wide, tall = (float(box.get(side, 0)) for side in ("x", "y", "width", "height"))
        cards.append((x, y, wide, tall))
        for text in group.findall(f"{SVG}text"):
            length = len(text.text or "") * 0.5 * float(text.get("font-size", 11))
            assert float(text.get("x", 0)) + length <= x + wide, text.text
            assert y < float(text.get("y", 0)) <= y + tall, text.text
    over = [
        (a, b)
        for n, a in enumerate(cards)
        for b in cards[n + 1 :]
        if a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
    ]
    assert len(cards) > 50
    assert not over


def test_a_real_network_fits_a_page_when_folded(tmp_path: Path) -> None:
    model = torchscript.mobilenet_v2(residual=False)
    (wide, tall), whole = size(drawn(model, tmp_path)), size(drawn(model, tmp_path, "--unfolded"))
    assert wide < 2000
    assert tall < 8000
    assert whole[1] > 1.5 * tall


def test_a_graph_shows_its_groups_its_findings_and_what_they_mean(tmp_path: Path) -> None:
    picture = drawn(model_of(CONCAT), tmp_path)
    shown = texts(picture)
    assert shown.count("1") >= 3, "the legend and both inputs have the number of the group"
    assert "QDQ101" in shown
    assert "finding" in shown
    assert "group: sites with this number share one scale" in shown
    assert any(text.endswith("1 finding") for text in shown)
    assert "QDQ101" in re.sub(r"<text.*?</text>", "", picture), "the tooltip has the message"


def test_pairs_and_activations_fold_into_their_layer(tmp_path: Path) -> None:
    folded = texts(drawn(model_of(FOLDS), tmp_path))
    assert len([text for text in folded if text.startswith("INT8 Conv")]) == 2
    assert "INT8 Conv · Sigmoid · Mul" in folded
    assert not {"Q", "DQ", "Sigmoid"} & set(folded)
    assert any(re.fullmatch(r"1 × 4 × 300 × 300 · [\d,]{7,} bytes", text) for text in folded)
    whole = texts(drawn(model_of(FOLDS), tmp_path, "--unfolded"))
    assert whole.count("Q") == whole.count("DQ") == 2, "of activations; constants are left out"
    assert "Q, DQ" in whole, "the legend"
    assert len([text for text in whole if re.fullmatch(r"scale [\d.e-]+", text)]) == 4


def test_reformats_are_marked_with_their_bytes(tmp_path: Path) -> None:
    text = """g (float[1,4,32,32] x) => (float[1,4,32,32] y) { y = t.conv4 (x, s1) }"""
    shown = texts(drawn(model_of(text), tmp_path))
    assert any(re.fullmatch(r"1 reformat, [\d,]+ bytes", line) for line in shown)
    assert "reformat on the way" in shown


def test_names_are_text_and_not_markup() -> None:
    engine = Engine('<e "1">', "a&b", (Layer('x"</svg>\\', "K", ('x"</svg>\\',)),))
    sheets = of_engines([engine])
    assert '<e "1"> (a&b)' in texts(svg(sheets))
    line = next(x for x in dot(sheets).splitlines() if "n0_0 [" in x)
    assert r"x\"</svg>\\" in line


def test_dot_has_every_kernel_and_tensor_and_a_legend(tmp_path: Path) -> None:
    out = tmp_path / "e.dot"
    assert main(["engine", "draw", str(DATA / "qat.graph.json"), "-o", str(out)]) == 0
    written, engine = out.read_text(), open_engine(DATA / "qat.graph.json")
    assert len(re.findall(r"^    n0_\d+ \[", written, re.M)) == len(engine.working)
    assert written.count(" -> n") == len({(a, b) for a, b, _ in engine.edges})
    assert 'label="legend"' in written
    assert 'label="reformat"' in written


def test_dot_folds_as_the_picture_does(tmp_path: Path) -> None:
    written = drawn(model_of(FOLDS), tmp_path, suffix=".dot")
    assert written.count(" [label=") - written.count("legend_") == 4, "two layers, the input and the output"
    assert "INT8 Conv · Sigmoid · Mul" in written


def test_layers_that_read_in_a_circle_are_drawn() -> None:
    a, b = Tensor("a", (1,), "FP32"), Tensor("b", (1,), "FP32")
    loop = (Layer("one", "K", inputs=(b,), outputs=(a,)), Layer("two", "K", inputs=(a,), outputs=(b,)))
    (sheet,) = of_engines([engine_of(*loop)])
    assert len(sheet.cards) == 2
    assert len(sheet.wires) == 1
    assert svg([sheet])


def test_a_picture_of_nothing_is_valid() -> None:
    nothing = Sheet("empty", (), (), ())
    assert ElementTree.fromstring(svg([nothing])) is not None
    assert dot([nothing]).startswith("digraph {")


def test_a_long_wire_passes_beside_the_cards_between() -> None:
    found = places([40, 40, 40, 40], 100, [(0, 1), (1, 2), (2, 3), (0, 3)])
    lane = found.trunks[0]
    assert len(lane) == 4, "two layers, top and bottom"
    for (x, _), (left, _) in ((point, found.cards[i]) for point in lane for i in (1, 2)):
        assert not left <= x <= left + 100


def test_parts_that_nothing_joins_are_placed_below_each_other_before_they_get_wide() -> None:
    found = places([40] * 200, 100, [(n, n + 1) for n in range(0, 100, 2)])
    assert found.width < 1500
    assert len(set(found.cards)) == 200
    assert found.height < 2000


def test_another_ending_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "draw", str(DATA / "qat.graph.json"), "-o", str(tmp_path / "e.png")]) == 2
    assert "use the file extension .svg or .dot" in capsys.readouterr().err
