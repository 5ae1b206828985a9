"""Seeded noise that runs: sizes of dynamic dimensions are tried in ONNX Runtime until the model accepts them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from ..errors import ModelError
from ..graph.graph import Graph
from ..model.runtime import PROVIDERS, Feeds, Session
from .inputs import model_inputs
from .noise import noise
from .sizes import Dimension, Sizes, dimensions, shape_of

TRIALS = 24
"""The most combinations of sizes that are tried."""
COMMON = (32, 64, 128, 256, 512, 8, 1, 2, 4)
"""Sizes to try where an error of ONNX Runtime tells nothing."""
LARGEST = {"image": 1024, "channels": 4096}
"""The largest size that is tried for a dimension of a kind; a larger image could fill the memory."""
MOST = 1 << 24
"""Elements of the largest input that is tried after the first sizes: several of 512 would fill the memory."""
OUT_OF_TABLE = re.compile(r"bounds|out of range|indices|invalid index", re.IGNORECASE)
"""Errors of ONNX Runtime about the values of an input rather than its shape."""
SOURCE = re.compile(r"\S+\.(?:cc|h|cpp|hpp):\d+\S*|'[^']*'|0x[0-9a-f]+|\[ONNXRuntimeError\] : \d+")
"""Parts of an error of ONNX Runtime whose numbers are no sizes: source lines, node names, addresses."""


@dataclass(frozen=True)
class Run:
    """Noise that runs, and what the model computed from it: the outputs of each sample."""

    feeds: Feeds
    outputs: list[list[Any]]


def run_on_noise(model: onnx.ModelProto, folder: Path, provider: str = PROVIDERS["cpu"]) -> Run:
    """Runs a model on seeded noise.

    If it does not run with the first sizes of its dynamic dimensions, others are tried: those that the error message
    implies ("16 by 77", "{1,16,512}, requested shape:{1,77,512}"), then powers of two, at most `TRIALS` in all.
    Dimensions of one name have one size in every trial.

    Raises:
        ModelError: no trial runs, with the error of the first; or an input is not a numeric tensor.
    """
    session = Session(model, folder, provider)
    found = dimensions(Graph(model))
    start = {d.name: d.size for d in found}
    first: ModelError | None = None
    pending, blind = [start], _changed(found, start, COMMON)
    tried: list[dict[str, int]] = []
    while (pending or blind) and len(tried) < TRIALS:
        sizes = (pending or blind).pop(0)
        if sizes in tried or (tried and _elements(model, sizes) > MOST):
            continue
        tried.append(sizes)
        try:
            return _run(session, model, sizes)
        except ModelError as error:
            first = first or error
            pending += _changed(found, sizes, _implied(error, found, sizes))
    assert first is not None
    more = f" ({len(tried)} choices of sizes for {', '.join(sorted(start))} were tried)" if found else ""
    raise ModelError(f"{first}{more}; give inputs with --data") from first


def _elements(model: onnx.ModelProto, sizes: Sizes) -> int:
    """The elements of the largest input."""
    return max((math.prod(shape_of(info, sizes)) for info in model_inputs(model)), default=0)


def _run(session: Session, model: onnx.ModelProto, sizes: dict[str, int]) -> Run:
    feeds = noise(model, sizes=sizes)
    try:
        return Run(feeds, session.run(feeds))
    except ModelError as error:
        if not OUT_OF_TABLE.search(_text(error)):
            raise
        plain = noise(model, sizes=sizes, plain=True)
        try:
            return Run(plain, session.run(plain))
        except ModelError:
            raise error from None


def _changed(found: Sequence[Dimension], sizes: dict[str, int], candidates: Sequence[int]) -> list[dict[str, int]]:
    """Returns the sizes with each candidate for all open dimensions together, then for each of them alone."""
    loose = [d for d in found if d.kind != "fixed"]
    inner = [d for d in loose if d.kind not in ("batch", "channels")]
    outer = [d for d in loose if d not in inner]
    fitting = [[(d.name, c) for d in inner if c <= _limit(d)] for c in candidates]
    together = [{**sizes, **dict(fits)} for fits in fitting if len(fits) > 1]
    alone = [{**sizes, d.name: c} for part in (inner, outer) for c in candidates for d in part if c <= _limit(d)]
    return together + alone


def _limit(dimension: Dimension) -> int:
    return LARGEST.get(dimension.kind, 4096)


def _implied(error: ModelError, found: Sequence[Dimension], sizes: dict[str, int]) -> list[int]:
    """Returns the sizes that the numbers of an error imply: each of them; and, for two different ones m and n, what a
    dimension s becomes if m should be n and m is s plus a constant, a multiple of s, or of its square."""
    numbers = list(dict.fromkeys(_numbers(error)))
    own = list(dict.fromkeys(sizes[d.name] for d in found if d.kind != "fixed"))
    exact: list[float] = list(numbers)
    for s in own:
        for m in numbers:
            exact += [x for n in numbers if n != m for x in (s + n - m, s * n / m, s * (n / m) ** 0.5)]
    whole = [round(x) for x in exact if x >= 1 and abs(x - round(x)) < 1e-9 and x <= 4096]
    return [n for n in dict.fromkeys(whole) if n not in own][: TRIALS // 2]


def _numbers(error: ModelError) -> Iterator[int]:
    text = SOURCE.sub(" ", _text(error))
    for word in re.findall(r"\d+", text.partition("Status Message:")[2] or text):
        if 1 < int(word) <= 2**24:
            yield int(word)


def _text(error: ModelError) -> str:
    """Returns the whole message of ONNX Runtime, of which a ModelError has only the beginning."""
    return str(error.__cause__ or error)
