"""`install_hint`: the command that installs what an optional feature needs, as this package was installed.

qdqgraph need not be on a package index: the command names the packages of the extra themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

NAME = "qdqgraph"
ROOT = Path(__file__).parent.parent
REQUIREMENT = re.compile(r"([\w.-]+)(?:\[([\w,.-]+)\])?\s*([^;]*?)\s*;.*extra == ['\"]([\w.-]+)")
"""A requirement of an extra in the metadata: package, its extras, bounds, extra."""


def install_hint(extra: str) -> str:
    """The command for an extra of pyproject.toml, such as "pip install 'onnxruntime<1.33,>=1.20'"."""
    try:
        packages = _packages(extra, requires(NAME) or [])
    except PackageNotFoundError:
        packages = []
    if not packages and (ROOT / "pyproject.toml").is_file():  # a source tree that is not installed, or was long ago
        return f"pip install '{ROOT}[{extra}]'"
    return f"pip install {' '.join(packages)}"


def _packages(extra: str, requirements: Sequence[str]) -> list[str]:
    """The packages of an extra and of the extras that it includes, as words of a shell."""
    found: list[str] = []
    for text in requirements:
        match = REQUIREMENT.match(text)
        if match is None or match[4] != extra:
            continue
        name, inner, bounds, _ = match.groups()
        if name == NAME:
            found += [each for part in (inner or "").split(",") for each in _packages(part, requirements)]
        else:
            found.append(f"'{name}{bounds}'" if bounds else name)
    return list(dict.fromkeys(found))
