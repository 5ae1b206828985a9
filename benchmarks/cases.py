"""What check finds, what fix does and what TensorRT-RTX builds: one row for each small graph of a folder.

    python benchmarks/cases.py [FOLDER]

FOLDER contains ONNX files, or cases in ONNX text as tests/cases, the default. Prints a Markdown table:

- findings: the codes that check reports, with their number
- exit: the exit code of fix
- INT8 layers: weighted layers that read INT8, of all weighted layers, before and after, by a TensorRT-RTX build
- INT8 bytes, float bytes: what the engine stores between convolution blocks in one run, before and after
- outputs: the smallest SQNR against the input in ONNX Runtime, on seeded noise

Needs the extras "ort" and "tensorrt"; takes about half a second a file.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from datetime import date
from importlib import metadata
from pathlib import Path

import onnx

import qdqgraph
from qdqgraph.engines.compare.storage import Storage
from qdqgraph.engines.layers import Engine
from qdqgraph.errors import QdqgraphError

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support import cases
from tests.support.builder import Builder, int8_layers
from tests.support.cases import Case

COLUMNS = "case, findings, exit, INT8 layers, INT8 bytes, float bytes, outputs"


def findings(model: onnx.ModelProto) -> str:
    """The codes that check reports, each with its number if that is not 1."""
    try:
        found = Counter(f.code for f in qdqgraph.check(model))
    except QdqgraphError as error:
        return f"refused: {str(error).splitlines()[0]}"
    return ", ".join(code + (f" x{n}" if n > 1 else "") for code, n in sorted(found.items())) or "none"


def change(engines: list[Engine | str], sides: list[str]) -> str:
    """One cell: both sides if they differ, else one."""
    shown = ["refused" if isinstance(engine, str) else side for engine, side in zip(engines, sides, strict=True)]
    return " → ".join(shown) if len(set(shown)) > 1 else shown[0]


def outputs(result: qdqgraph.Result) -> str:
    """How the outputs agree with those of the input."""
    numbers = result.numbers
    if numbers is None or not numbers.outputs:
        return "not compared"
    if all(a.identical for a in numbers.outputs.values()):
        return "identical"
    return f"{min(a.sqnr for a in numbers.outputs.values()):.1f} dB"


def row(case: Case, builder: Builder) -> str:
    """One line of the table."""
    engines = [builder.build(case.model)]
    try:
        result = qdqgraph.fix(case.model, numerics=True)
        code, agreed = "0", outputs(result)
        engines.append(builder.build(result.model))
    except QdqgraphError:
        code, agreed = "2", "no file"
    layers = ["/".join(map(str, int8_layers(e))) if isinstance(e, Engine) else "" for e in engines]
    stored = [Storage.of(e) if isinstance(e, Engine) else None for e in engines]
    small = [f"{s.boundary['INT8']:,}" if s else "" for s in stored]
    wide = [f"{s.boundary_bytes - s.boundary['INT8']:,}" if s else "" for s in stored]
    report = case.one("report")
    name = f"[{case.name}]({report})" if report.startswith("https://") else case.name
    cells = [name, findings(case.model), code, *(change(engines, side) for side in (layers, small, wide)), agreed]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=cases.FOLDER)
    args = parser.parse_args()
    paths = sorted(p for p in args.folder.rglob("*") if p.suffix in (".onnx", ".onnxtxt"))
    versions = f"TensorRT-RTX {metadata.version('tensorrt-rtx-cu12')}, ONNX Runtime {metadata.version('onnxruntime')}"
    print(f"{date.today()}, {len(paths)} files, {versions}, target {qdqgraph.Options().target}\n")
    print("| " + COLUMNS.replace(", ", " | ") + " |")
    print("|" + " --- |" * len(COLUMNS.split(", ")))
    with Builder() as builder:
        for path in paths:
            print(row(cases.read(path), builder), flush=True)


if __name__ == "__main__":
    main()
