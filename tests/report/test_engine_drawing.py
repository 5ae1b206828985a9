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
from qdqgraph.report import engine_drawing as pictures
from qdqgraph.report.drawing import shortened, svg
from tests.support import torchscript
from tests.support.models import build as model_of
from tests.support.paths import DATA

SVG = "{http://www.w3.org/2000/svg}"


def boxes(picture: str) -> list[ElementTree.Element]:
    return [
        group.findall(f"{SVG}rect")[-1 - ('height="5"' in ElementTree.tostring(group, "unicode"))]
        for group in ElementTree.fromstring(picture).iter(f"{SVG}g")
    ]


def test_colour_is_precision_and_reformats_are_loud() -> None:
    engine = open_engine(DATA / "qat.graph.json")
    (drawing,) = pictures.of_engines([engine])
    fills = [(b.get("fill"), b.get("stroke-width")) for b in boxes(svg([("qat", drawing)]))]
    assert len(fills) == len(engine.working)
    assert fills.count((pictures.LOUD, "4")) == len(engine.reformats) == 8
    assert (pictures.PRECISIONS["INT8"], "1") in fills


def test_lines_are_as_wide_as_what_moves_and_bars_as_long_as_what_is_measured() -> None:
    small, large = Tensor("s", (1, 100), "INT8"), Tensor("l", (1, 10_000), "INT8")
    layers = (
        replace(Layer("a", "K", ("a",), outputs=(small, large)), time_ms=3.0),
        replace(Layer("b", "K", ("b",), inputs=(small,)), time_ms=1.0),
        replace(Layer("c", "K", ("c",), inputs=(large,)), time_ms=1.5),
    )
    (drawing,) = pictures.of_engines([Engine("e", "test", layers)], by="time")
    widths = {b.text: b.thick for b in drawing.boxes}
    assert widths["b"][0] < widths["c"][0] == pictures.THICK
    assert [b.look.share for b in drawing.boxes if b.look] == [1.0, 1 / 3, 0.5]


def test_two_engines_stand_side_by_side_on_one_scale(tmp_path: Path) -> None:
    out = tmp_path / "both.svg"
    graphs = [str(DATA / f"{name}.graph.json") for name in ("qat", "qat-residual")]
    assert main(["engine", "draw", *graphs, "--by", "time", "-o", str(out)]) == 0
    picture = out.read_text()
    assert "qat.graph.json (trtexec)" in picture and "qat-residual.graph.json (trtexec)" in picture
    bars = [
        int(r.get("width", 0)) for r in ElementTree.fromstring(picture).iter(f"{SVG}rect") if r.get("height") == "5"
    ]
    assert max(bars) == pictures.WIDE and bars.count(pictures.WIDE) == 1, "the slowest layer of both fills its box"


def test_150_layers_stay_legible(tmp_path: Path) -> None:
    onnx.save(torchscript.mobilenet_v2(residual=False), file := tmp_path / "m.onnx")
    out = tmp_path / "m.svg"
    assert main(["engine", "draw", str(file), "-o", str(out)]) == 0
    texts = list(ElementTree.fromstring(out.read_text()).iter(f"{SVG}text"))
    assert len(texts) > 200
    assert all(len(t.text or "") * 0.56 * float(t.get("font-size", 12)) <= pictures.WIDE * 1.1 for t in texts[1:]), (
        "no text leaves its box"
    )
    places = [(t.get("x"), t.get("y")) for t in texts]
    assert len(set(places)) == len(places), "no text lies on another"


def test_a_graph_shows_its_groups_and_its_findings(tmp_path: Path) -> None:
    text = """g (float[1,4,8,8] x, float[1,4,8,8] v) => (float[1,8,8,8] y) {
        a = t.pair (x, s1)  b = t.pair (v, s2)  y = Concat <axis = 1> (a, b)
    }"""
    onnx.save(model_of(text), file := tmp_path / "m.onnx")
    out = tmp_path / "m.svg"
    assert main(["draw", str(file), "-o", str(out)]) == 0
    picture = out.read_text()
    outlines = re.findall(r'stroke="(#\w+)" stroke-width="3" stroke-dasharray', picture)
    assert len(outlines) >= 4 and len(set(outlines)) == 1, "both pairs are in one group"
    assert "QDQ101" in picture


def test_names_are_text_and_not_markup(tmp_path: Path) -> None:
    engine = Engine('<e "1">', "a&b", (Layer('x"</svg>\\', "K", ('x"</svg>\\',)),))
    (drawing,) = pictures.of_engines([engine])
    assert ElementTree.fromstring(svg([(engine.name, drawing)])) is not None
    line = next(x for x in pictures.dot([("e", drawing)]).splitlines() if "n0_0 [" in x)
    assert r"x\"</svg>\\" in line


def test_dot_has_every_layer_and_line(tmp_path: Path) -> None:
    out = tmp_path / "e.dot"
    assert main(["engine", "draw", str(DATA / "qat.graph.json"), "-o", str(out)]) == 0
    written, engine = out.read_text(), open_engine(DATA / "qat.graph.json")
    assert written.count("label=") - 1 == len(engine.working)
    assert written.count(" -> n") == len({(a, b) for a, b, _ in engine.edges})


def test_layers_that_read_in_a_circle_are_drawn() -> None:
    a, b = Tensor("a", (1,), "FP32"), Tensor("b", (1,), "FP32")
    loop = (Layer("one", "K", inputs=(b,), outputs=(a,)), Layer("two", "K", inputs=(a,), outputs=(b,)))
    (drawing,) = pictures.of_engines([Engine("e", "test", loop)])
    assert len(drawing.boxes) == 2
    assert svg([("e", drawing)])


@pytest.mark.parametrize(("text", "most", "short"), [("abcdef", 6, "abcdef"), ("abcdefghij", 6, "ab…hij")])
def test_long_names_give_way_in_the_middle(text: str, most: int, short: str) -> None:
    assert shortened(text, most) == short


def test_another_ending_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "draw", str(DATA / "qat.graph.json"), "-o", str(tmp_path / "e.png")]) == 2
    assert "use the file extension .svg or .dot" in capsys.readouterr().err
