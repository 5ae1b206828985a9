"""Puts a page into one HTML file: template, styles, scripts, the data, and the layout library.

Nothing is loaded from elsewhere, and the page says so to the browser: its content security policy allows the script and
the style with these digests, the worker of the layout, and nothing else. The data are JSON in ASCII in a script element
of a type that browsers do not run; `<`, `>` and `&` are escapes, so no name ends the element or begins a comment.

Source: https://html.spec.whatwg.org/multipage/scripting.html#restrictions-for-contents-of-script-elements and
https://www.w3.org/TR/CSP3/#directive-script-src (digests).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from pathlib import Path

import jinja2
import msgspec

from .data import Page

ASSETS = Path(__file__).parent / "assets"
STYLES = ("page.css", "graph.css", "print.css")
SCRIPTS = (
    "data.js",
    "dom.js",
    "layout.js",
    "graph.js",
    "drawing.js",
    "controls.js",
    "panel.js",
    "tables.js",
    "engines.js",
    "summary.js",
    "search.js",
    "main.js",
)
LAYOUT = "elk-worker.min.js"
"""elkjs 0.12.1, https://github.com/kieler/elkjs, EPL-2.0: `elkjs-LICENSE.md`."""


def html(page: Page) -> str:
    """The page as one HTML file."""
    style, script = _joined(STYLES), f"(() => {{\n{_joined(SCRIPTS)}\n}})();"
    loader = jinja2.FileSystemLoader(ASSETS)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.get_template("page.html").render(
        page=page,
        policy=policy(style, script),
        style=style,
        script=script,
        data=embedded(page),
        layout=_packed(ASSETS / LAYOUT) if page.views else "",
    )


def embedded(page: Page) -> str:
    """The page as JSON in ASCII that is safe inside a script element: it contains no `<`, `>`, `&`."""
    text = json.dumps(json.loads(msgspec.json.encode(page)), separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def policy(style: str, script: str) -> str:
    """The content security policy of a page with this style and script."""
    return (
        f"default-src 'none'; script-src '{_digest(script)}' blob:; style-src '{_digest(style)}'; worker-src blob:; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _joined(names: tuple[str, ...]) -> str:
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names)


def _packed(path: Path) -> str:
    """A file as base64 of its gzip; the browser unpacks it when it needs it."""
    return base64.b64encode(gzip.compress(path.read_bytes(), 9, mtime=0)).decode()
