"""The calibration methods: each file of this folder defines one as `METHOD`.

To add a method, add a file. The command line, configurations and messages list the files of the folder.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module

from ...errors import CalibrationError
from ..method import Method

DEFAULT = "max"
"""The method if none is requested; weights always use it."""


def methods() -> Mapping[str, Method]:
    """Every method by its name: the default first, then by name."""
    found: list[Method] = [import_module(f"{__name__}.{file.name}").METHOD for file in pkgutil.iter_modules(__path__)]
    return {method.name: method for method in sorted(found, key=lambda m: (m.name != DEFAULT, m.name))}


def find_method(name: str) -> Method:
    """The method with this name.

    Raises:
        CalibrationError: no method has this name.
    """
    known = methods()
    if name not in known:
        raise CalibrationError(f"there is no calibration method {name!r}: write {', '.join(known)}")
    return known[name]
