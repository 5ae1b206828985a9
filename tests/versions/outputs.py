"""Repairs many graphs, and prints the digest of each result as JSON: `python -m tests.versions.outputs FOLDER`.

The graphs are the files of the folder, which `write` writes there, so that two environments repair the same bytes.

They are those of `tests/cases`, the examples of the built-in rules, and random networks. Each is repaired, the cases and
random networks with FP16 outside INT8 too. Plans are not compared, because each onnx prints the texts in them, which are
for readers, in its own way. Nothing is measured on data: versions of ONNX Runtime may round differently.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx

import qdqgraph
from qdqgraph.model.text import parse
from qdqgraph.rulekit import Example
from tests.support import cases
from tests.support.graphs import CLOSE_SCALES, SCALES, Net

RANDOM = 12
"""Random networks with each choice of scales."""


def graphs() -> Iterator[tuple[str, onnx.ModelProto]]:
    """The graphs with their names."""
    for path in sorted(cases.FOLDER.glob("*.onnxtxt")):
        yield f"case {path.stem}", cases.read(path).model
    for rule in qdqgraph.rules(installed=False):
        for index, example in enumerate(e for e in rule.examples if isinstance(e, Example)):
            yield f"example {rule.code} {index}", parse(example.before)
    for seed in range(RANDOM):
        for name, scales in (("far", SCALES), ("close", CLOSE_SCALES)):
            yield f"random {name} {seed}", Net(seed, 5 + 2 * seed, scales).model()


def digests(folder: Path) -> dict[str, str]:
    """The digest of each result by file and repair; of a refusal, the kind of error."""
    found = {}
    for path in sorted(folder.glob("*.onnx")):
        found[path.stem] = _digest(path, fp16=False)
        if not path.stem.startswith("example"):
            found[f"{path.stem} fp16"] = _digest(path, fp16=True)
    return found


def _digest(model: Path, *, fp16: bool) -> str:
    try:
        result = qdqgraph.fix(model, fp16=fp16)
    except qdqgraph.QdqgraphError as error:
        return type(error).__name__
    return hashlib.sha256(result.model.SerializeToString(deterministic=True)).hexdigest()


def write(folder: Path) -> None:
    """Writes the graphs into a folder."""
    for name, model in graphs():
        onnx.save(model, folder / f"{name}.onnx")


if __name__ == "__main__":
    json.dump(digests(Path(sys.argv[1])), sys.stdout, indent=0, sort_keys=True)
