"""Pictures of the HTML report for the documentation, in docs/images.

    python -m benchmarks.screenshots [--output docs/images]

Needs Chromium, and the packages playwright and pillow (extras "test" and "pictures"). The networks are the
repeated detector backbone of `growing.py` with about 60, 600 and 1,500 nodes, repaired, in the light and the dark
theme; and NVIDIA's ResNet-18 after QAT without quantizers on its skips, for the README.

Prints for each network the seconds from opening the file to a graph on the screen, and to the final layout.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

import onnx
from PIL import Image
from playwright.sync_api import Browser, Page

import qdqgraph
from benchmarks.growing import backbone
from qdqgraph.report.html.pages import diff_page
from qdqgraph.report.html.render import html
from tests.support.report import browser, fix_page
from tests.support.torchscript import resnet18

SIZES = (60, 600, 1500)
THEMES = ("light", "dark")
WIDE, HIGH = 1280, 800


def opened(window: Browser, file: Path, theme: str) -> tuple[Page, float]:
    """A report in a tab, and the seconds until it could be used."""
    tab = window.new_page(viewport={"width": WIDE, "height": HIGH}, color_scheme="dark" if theme == "dark" else "light")
    start = time.perf_counter()
    tab.goto(file.as_uri())
    tab.wait_for_selector("body[data-ready]")
    return tab, time.perf_counter() - start


def shown(tab: Page) -> tuple[float, float]:
    """Opens the graph; returns the seconds to its boxes, and to the final layout."""
    start = time.perf_counter()
    tab.click("#tab-graph")
    tab.wait_for_selector(".box")
    first = time.perf_counter() - start
    tab.wait_for_selector("body[data-layout=elk]", timeout=120_000)
    return first, time.perf_counter() - start


def picture(tab: Page, path: Path) -> None:
    """Keeps what is on the screen."""
    tab.wait_for_timeout(200)
    Image.open(io.BytesIO(tab.screenshot())).convert("RGB").save(path, optimize=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


def chosen(tab: Page, number: int = 1) -> None:
    """Goes to the finding of this number, by cost, with its panel."""
    for _ in range(number):
        tab.keyboard.press("n")
    tab.wait_for_selector(".box.chosen")


def report(folder: Path, name: str, model: onnx.ModelProto) -> Path:
    """Writes the report of a repair."""
    file = folder / f"{name}.html"
    file.write_text(html(fix_page(model, f"{name}.onnx")), encoding="utf-8")
    return file


def main() -> None:
    """Writes all pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="folder of the pictures")
    folder: Path = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, browser() as window:
        files = {str(size): report(Path(place), f"backbone-{size}", backbone(size)) for size in SIZES}
        for size, file in files.items():
            for theme in THEMES:
                tab, ready = opened(window, file, theme)
                if size == str(SIZES[1]):
                    picture(tab, folder / f"report-summary-{theme}.png")
                first, last = shown(tab)
                print(f"{size} nodes: ready {ready:.2f} s, graph {first:.2f} s, final layout {last:.2f} s")
                if size != str(SIZES[0]):
                    chosen(tab, 20 if size == str(SIZES[2]) else 3)
                for _ in range(4 if size == str(SIZES[2]) else 0):
                    tab.keyboard.press("-")
                picture(tab, folder / f"report-{size}-{theme}.png")
                tab.close()
        network = resnet18(residual=False)
        tab, _ = opened(window, report(Path(place), "resnet18", network), THEMES[0])
        shown(tab)
        chosen(tab)
        picture(tab, folder / "report.png")
        both = Path(place) / "resnet18.onnx", Path(place) / "fixed.onnx"
        onnx.save(network, both[0])
        onnx.save(qdqgraph.fix(network).model, both[1])
        file = Path(place) / "engines.html"
        file.write_text(html(diff_page(both, qdqgraph.compare(*both))), encoding="utf-8")
        tab, _ = opened(window, file, THEMES[0])
        tab.click("#tab-engines")
        picture(tab, folder / "report-engines.png")


if __name__ == "__main__":
    main()
