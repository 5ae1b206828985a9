"""The report in Chromium, from a file: it renders, searches, opens, switches and stays quiet, whatever the names are."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.growing import backbone
from qdqgraph.report.html.render import html
from tests.support.models import CONCAT, build
from tests.support.report import browser, check_page, fix_page, hostile

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NODES = 1500
USABLE = 3.0
"""Seconds to a graph that can be searched, at `NODES` nodes."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as window:
        yield window


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    pages = {
        "repair": fix_page(backbone(60)),
        "hostile": check_page(hostile(build(CONCAT))),
        "large": check_page(backbone(NODES), rehearse=False),
    }
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(html(page), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    """A page that has no console error, no request, and no dialog when the test ends."""
    view = chromium.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
    said: list[str] = []
    view.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    view.on("pageerror", lambda error: said.append(str(error)))
    view.on("dialog", lambda dialog: said.append(dialog.message))
    view.on("request", lambda request: None if request.url.startswith(("file:", "blob:")) else said.append(request.url))
    yield view
    view.close()
    assert said == []


def opened(view: Page, file: Path, part: str = "graph") -> Page:
    view.goto(file.as_uri())
    view.wait_for_selector("body[data-ready]")
    view.click(f"#tab-{part}")
    return view


def until(view: Page, holds: str) -> None:
    """Waits until an expression is true; the page's own policy forbids the functions that would wait inside it."""
    end = time.monotonic() + 10
    while not view.evaluate(holds):
        assert time.monotonic() < end, holds
        view.wait_for_timeout(20)


def test_the_summary_is_one_screen(tab: Page, files: dict[str, Path]) -> None:
    tab.goto(files["repair"].as_uri())
    assert "repaired" in tab.inner_text(".verdict .says")
    assert tab.locator("#overview table").count() == 2
    tall, seen = tab.evaluate(
        "() => { const s = document.getElementById('summary'); return [s.scrollHeight, s.clientHeight]; }"
    )
    assert tall <= seen


def test_search_finds_a_layer_and_centres_it(tab: Page, files: dict[str, Path]) -> None:
    view = opened(tab, files["large"])
    view.wait_for_selector("body[data-layout=elk]")
    name = json.loads(view.text_content("#data") or "")["views"][0]["boxes"][-2]["title"]
    view.keyboard.press("/")
    view.keyboard.type(name.upper())
    view.wait_for_selector("#hits button")
    view.keyboard.press("Enter")
    chosen = view.wait_for_selector(".box.chosen")
    assert chosen is not None and name == view.inner_text("#panel h2")
    box, canvas = chosen.bounding_box(), view.locator(".canvas").bounding_box()
    assert box is not None and canvas is not None
    for place, length in (("x", "width"), ("y", "height")):
        middle = canvas[place] + canvas[length] / 2  # type: ignore[literal-required]
        assert abs(box[place] + box[length] / 2 - middle) < 60  # type: ignore[literal-required]


def test_a_click_opens_the_panel_with_scales_and_the_rule(tab: Page, files: dict[str, Path]) -> None:
    view = opened(tab, files["repair"])
    view.click(".segment .side >> text=before")
    view.click(".box.found")
    panel = view.inner_text("#panel")
    assert "QDQ" in panel and "null" not in panel and "Scales of its outputs" in panel and "Why, and when not" in panel
    view.keyboard.press("Escape")
    assert not view.is_visible("#panel")


def test_findings_lead_from_table_to_graph_and_back(tab: Page, files: dict[str, Path]) -> None:
    view = opened(tab, files["repair"], "findings")
    view.click("#findings tbody tr:first-child td:nth-child(2) button")
    assert view.is_visible("#graph") and view.is_visible(".finding.chosen")
    view.click(".finding.chosen >> text=in the table")
    assert view.is_visible("#findings tr.here")


def test_before_and_after_in_place(tab: Page, files: dict[str, Path]) -> None:
    view = opened(tab, files["repair"])
    view.wait_for_selector("body[data-layout=elk]")
    view.wait_for_timeout(60)
    where = {side: [] for side in "01"}  # type: dict[str, list[str]]
    found = {}
    for _ in range(2):
        side = view.get_attribute("body", "data-side") or ""
        where[side] = view.eval_on_selector_all(".box", "all => all.map((b) => b.getAttribute('transform')).sort()")
        found[side] = view.locator(".badge:not(.gone)").count()
        view.keyboard.press("b")
        until(view, f"document.body.dataset.side !== '{side}'")
        view.wait_for_timeout(60)
    assert where["0"] == where["1"] and found["0"] > found["1"] == 0


def test_the_panel_says_what_changed_where_the_graph_has_a_dot(tab: Page, files: dict[str, Path]) -> None:
    view = opened(tab, files["repair"])
    view.wait_for_selector("body[data-layout=elk]")
    boxes = json.loads(view.text_content("#data") or "")["views"][1]["boxes"]
    view.click(".box >> nth=0")
    view.keyboard.press("f")
    until(view, f"document.querySelectorAll('.box').length === {len(boxes)}")
    found = []
    for box in boxes:
        view.click(f'[data-box="{box["id"]}"]')
        until(view, f"document.querySelector('.box.chosen')?.dataset.box === '{box['id']}'")
        found.append((view.locator(".box.chosen .differs").count(), view.locator("#panel .change").count()))
        assert "object" not in view.inner_text("#panel")
    assert {(0, 0), (1, 1)} == set(found)


def test_a_folded_layer_opens_and_moves_those_below_it(tab: Page, files: dict[str, Path]) -> None:
    view = opened(tab, files["repair"])
    view.wait_for_selector("body[data-layout=elk]")
    boxes = len(json.loads(view.text_content("#data") or "")["views"][1]["boxes"])
    view.keyboard.press("f")
    until(view, f"document.querySelectorAll('.box').length === {boxes}")  # all of the graph is on the screen
    place = "all => Math.max(...all.map((b) => Number(b.getAttribute('transform').match(/ ([-\\d.]+)\\)/)[1])))"
    before = view.eval_on_selector_all(".box", place)
    view.click("[data-fold] >> nth=0")
    view.wait_for_selector(".row")
    assert "Q" in (view.text_content(".row.pair >> nth=0") or "")
    rows = view.locator(".row").count()
    assert view.eval_on_selector_all(".box", place) == pytest.approx(before + 19 * rows + 10)
    view.click("[data-fold] >> nth=0")
    view.wait_for_selector(".row", state="detached")
    until(view, f"({place})([...document.querySelectorAll('.box')]) === {before}")  # boxes are drawn in the next frame


def test_the_theme_follows_the_system_and_the_button(tab: Page, files: dict[str, Path]) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    view = opened(tab, files["repair"])
    light = view.evaluate(colour)
    view.emulate_media(color_scheme="dark")
    until(view, f"{colour} !== '{light}'")  # the page hears of it in the next frame
    view.click("#theme")
    assert view.evaluate(colour) == light


def test_tables_sort_and_filter(tab: Page, files: dict[str, Path]) -> None:
    view = opened(tab, files["large"], "findings")
    cost = "all => all.map((cell) => Number(cell.textContent.replaceAll(',', '')))"
    view.click("#findings th >> text=bytes a run")
    costs = view.eval_on_selector_all("#findings td:nth-child(4)", cost)
    view.click("#findings th >> text=bytes a run")
    assert costs == sorted(costs, reverse=True) and len(set(costs)) > 1
    assert view.get_attribute("#findings th:nth-child(4)", "aria-sort") == "ascending"
    whole = view.locator("#findings tbody tr").count()
    code = view.inner_text("#findings td.code >> nth=0")
    view.fill("#findings input", code.lower())
    until(view, f"document.querySelectorAll('#findings tbody tr').length < {whole}")
    assert set(view.locator("#findings td.code").all_inner_texts()) == {code}


def test_engines_are_aligned_and_show_differences_only(tab: Page, files: dict[str, Path]) -> None:
    view = opened(tab, files["repair"], "engines")
    rows = view.locator(".kernelrow").count()
    assert view.locator(".side").count() == 2 and view.locator(".one.reformat").count() > 0
    view.check("#engines input[type=checkbox]")
    assert 0 < view.locator(".kernelrow").count() < rows


def test_arrows_walk_the_graph_and_keys_zoom(tab: Page, files: dict[str, Path]) -> None:
    view = opened(tab, files["large"])
    view.keyboard.press("n")
    first = view.wait_for_selector(".box.chosen")
    assert first is not None
    name = view.inner_text("#panel h2")
    view.keyboard.press("ArrowDown")
    until(view, f"document.querySelector('#panel h2').textContent !== '{name}'")
    zoom = "() => Number(document.querySelector('.canvas > g').getAttribute('transform').match(/scale\\(([\\d.]+)/)[1])"
    before = view.evaluate(zoom)
    view.keyboard.press("+")
    view.wait_for_timeout(60)
    assert view.evaluate(zoom) > before


def test_hostile_names_are_text(tab: Page, files: dict[str, Path]) -> None:
    view = opened(tab, files["hostile"])
    view.keyboard.press("n")
    view.wait_for_selector(".box.chosen")
    assert "<img src=x onerror=alert(1)>" in view.inner_text("#panel") and "\\u202e" in view.inner_text("#panel")
    for part in ("findings", "engines", "summary"):
        view.click(f"#tab-{part}")
    view.fill("#search", "<script>")
    view.wait_for_selector("#hits button")
    assert view.locator("img").count() == 0 and "owned" not in view.title()


def test_print_has_all_parts_and_the_whole_graph(tab: Page, files: dict[str, Path]) -> None:
    view = opened(tab, files["repair"], "summary")
    view.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    view.emulate_media(media="print")
    for part in ("summary", "graph", "findings", "engines"):
        assert view.is_visible(f"#{part}")
    until(view, "document.body.dataset.layout === 'elk'")
    assert view.locator(".box").count() > 5 and view.get_attribute(".canvas", "viewBox")
    assert view.evaluate("document.querySelector('.canvas').clientHeight") > 800, "240 mm"
    assert not view.is_visible("#search")


def test_a_graph_of_1500_nodes_is_usable_in_three_seconds(tab: Page, files: dict[str, Path]) -> None:
    """The best of three: other processes may hold the machine."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        view = opened(tab, files["large"])
        view.wait_for_selector(".box")
        view.fill("#search", "conv_100")
        view.wait_for_selector("#hits button")
        times.append(time.perf_counter() - start)
        if times[-1] < USABLE:
            break
    assert min(times) < USABLE, times
