"""docs/licences.md: the licence of each dependency, as its installed package declares it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution, metadata

from .paths import ROOT, project

PAGE = ROOT / "docs" / "licences.md"
HEAD = """# Licences of dependencies

<!-- Generated from installed packages by `python -m docs.generate`. -->

qdqgraph is Apache-2.0. Its HTML report contains elkjs 0.12.1 (EPL-2.0,
`qdqgraph/report/html/assets/elkjs-LICENSE.md`). It contains no code of the
packages below; pip installs them from their owners. The licence is
what the package declares in its metadata. `needed by` is the extra of `pip install 'qdqgraph[EXTRA]'`; *always*
includes what the required packages require themselves. Extras install more packages than they name; `pip-licenses`
lists those of an environment.

| package | needed by | licence |
| --- | --- | --- |
"""
SHORT = 60
"""Longer texts in the field License are whole licences; the classifiers then name it."""
KNOWN = {"BSD License": "BSD", "MIT License": "MIT", "Apache Software License": "Apache-2.0"}


def needed() -> Mapping[str, list[str]]:
    """Each package with the extras that name it; "always" for required ones and what those require."""
    table = project()["project"]
    found: dict[str, list[str]] = {}
    for name in sorted(closure(map(plain, table["dependencies"]))):
        found.setdefault(name, []).append("always")
    for extra, requirements in table["optional-dependencies"].items():
        for name in map(plain, requirements):
            if name != "qdqgraph" and extra not in found.setdefault(name, []):
                found[name].append(extra)
    return {name: extras if extras[0] != "always" else ["always"] for name, extras in sorted(found.items())}


def plain(requirement: str) -> str:
    """The name of a package in a requirement, normalized."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;(]", requirement, maxsplit=1)[0]).lower()


def closure(names: Iterator[str]) -> set[str]:
    """The packages and what they require without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += [plain(text) for text in distribution(name).requires or () if ";" not in text]
    return found


def licence(name: str) -> str | None:
    """What an installed package declares; None if it is not installed."""
    try:
        fields = metadata(name)
    except PackageNotFoundError:
        return None
    if "License-Expression" in fields:
        return fields["License-Expression"]
    named = [text.split(" :: ")[-1] for text in fields.get_all("Classifier") or () if text.startswith("License :: ")]
    named = [KNOWN.get(text, text) for text in named if text != "OSI Approved"]
    field = fields["License"].strip() if "License" in fields else ""
    return ", ".join(named) or (field if field and len(field) < SHORT and "\n" not in field else "see the package")


def row(name: str, extras: list[str]) -> str:
    """One row of the table; of a package that is not installed the page keeps the licence."""
    kept = re.search(rf"^\| {name} \|[^|]*\| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    found = licence(name) or (kept[1] if kept else "not known: install the package and run python -m docs.generate")
    return f"| {name} | {', '.join(extras)} | {found} |"


def page() -> str:
    """The text of docs/licences.md."""
    return HEAD + "".join(f"{row(name, extras)}\n" for name, extras in needed().items())
