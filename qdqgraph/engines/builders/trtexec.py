"""Builds and measures engines with trtexec on the user's GPU, and keeps all exports."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

from ...errors import EngineError
from ...graph.graph import Graph
from ...graph.pair import pairs
from ..layers import Engine
from ..read.saved import open_engine
from . import limits
from .how import Build, ParserError, RefusedError, shape_notes, shapes, statement, written
from .limits import Limits

VERSION = re.compile(r"TensorRT[^\n]*?\[TensorRT v(\d+)\]")
NODE = re.compile(r"In node (-?\d+) with name: (.*?) and operator: (\w+) \((\w+)\): \w+: (.*)")
"""The parser error of 10.x and 11.x."""
OLD_NODE = re.compile(r"While parsing node number (\d+) \[(\w+)")
OLD_TEXT = re.compile(r"In function (\w+):\s*(?:\[[^\]]*\]\s*)*\[\d+\] (.*)")
"""The parser error of 8.x, in two messages."""
RUNS = ("--warmUp=500", "--iterations=200")
"""At least 200 runs after 500 ms of warm-up."""
EXPORTS = {"--exportLayerInfo": "layers.json", "--exportProfile": "profile.json", "--exportTimes": "times.json"}


def installed() -> str:
    """Returns the path of trtexec.

    Raises:
        EngineError: it is missing.
    """
    program = shutil.which("trtexec")
    if program is None:
        raise EngineError("trtexec is not on the PATH: it is in the bin folder of the TensorRT package")
    return program


def build(graph: Graph, model: Path, how: Build) -> Engine:
    """Builds and measures an engine with trtexec; exports, engine and log stay in `how.keep`.

    Args:
        graph: the graph of the model.
        model: the model file.
        how: mode, shapes, limits and output folder of the build.

    Raises:
        RefusedError: TensorRT refused the model.
        EngineError: trtexec is missing, failed or exceeded a limit, or its version does not have this mode.
    """
    program = installed()
    folder = how.keep or Path(f"{model.stem}.{how.mode}.trtexec")
    folder.mkdir(parents=True, exist_ok=True)
    version = _version(program, folder)
    chosen = shapes(graph, how.shapes)
    command = [program, f"--onnx={model}", f"--saveEngine={folder / 'model.engine'}", *_types(version, how.mode)]
    command += ["--profilingVerbosity=detailed", "--dumpLayerInfo", "--dumpProfile", *RUNS]
    command += [] if version >= (11, 0) else ["--separateProfileRun"]  # 11.x always does
    command += [f"{option}={folder / name}" for option, name in EXPORTS.items()]
    if chosen:
        command.append("--shapes=" + ",".join(f"{name}:{written(dims)}" for name, dims in chosen.items()))
    for name in EXPORTS.values():
        (folder / name).unlink(missing_ok=True)
    log = folder / "trtexec.log"
    code = limits.run(command, "trtexec", log, how.limits)
    title = f"trtexec {version[0]}.{version[1]}"
    if code:
        raise _failure(title, model, log, code)
    layers, profile, times = (folder / name for name in EXPORTS.values())
    if not layers.is_file():
        raise EngineError(f"{title} succeeded but wrote no layer info; see its log {log}")
    given = (path if path.is_file() else None for path in (profile, times))
    engine = open_engine(layers, profile=next(given), times=next(given))
    notes = (*engine.notes, *shape_notes(chosen), f"exports and log are in {folder}")
    if how.mode == "best" and len(pairs(graph)):
        notes = (*notes, "--best shows TensorRT's own choice only on a model without Q/DQ; this model has Q/DQ")
    return replace(engine, name=model.name, source=f"{title} --mode {how.mode}", notes=notes)


def _version(program: str, folder: Path) -> tuple[int, int]:
    """Returns the major and minor version of trtexec: v8601 is 8.6, v101600 is 10.16."""
    log = folder / "version.log"
    limits.run([program, "--help"], "trtexec", log, Limits(120, 8192))
    found = VERSION.search(log.read_text(encoding="utf-8", errors="replace"))
    if found is None:
        raise EngineError(f"{program} prints no TensorRT version, so it may not be trtexec{limits.last_words(log)}")
    number = int(found[1])
    return (number // 10_000, number // 100 % 100) if number >= 100_000 else (number // 1000, number // 100 % 10)


def _types(version: tuple[int, int], mode: str) -> list[str]:
    """Returns the options for the allowed layer types; none in 11.x, which uses the types of the file.

    Raises:
        EngineError: this version does not have this mode.
    """
    if version < (11, 0):
        return {"qdq": ["--int8", "--fp16"], "fp16": ["--fp16"], "best": ["--best"]}[mode]
    if mode == "best":
        raise EngineError(
            "--mode best: trtexec 11 has no --best, because every network is strongly typed; "
            "build it with TensorRT 10.16 or older"
        )
    if mode == "fp16":
        raise EngineError("--mode fp16: trtexec 11 uses the types of the file; convert the model to FP16 instead")
    return []


def _failure(title: str, model: Path, log: Path, code: int) -> EngineError:
    """Returns the error of a failed build, from its log."""
    text = log.read_text(encoding="utf-8", errors="replace")
    errors = [ParserError(f[5], int(f[1]), f[2], f[3], f[4]) for f in NODE.finditer(text)]
    if not errors:
        said = OLD_TEXT.search(text)
        for found in OLD_NODE.finditer(text):
            function, words = (said[1], said[2]) if said else ("", "")
            errors.append(ParserError(words, int(found[1]), "", found[2], function))
    if errors:
        return RefusedError(f"{title} refuses {model.name}: {statement(errors[0].text)}", tuple(errors[:1]))
    lines = [line.strip() for line in text.splitlines() if "[E]" in line]
    reason = lines[0] if lines else "no reason given"
    return EngineError(f"{title} failed with exit code {code}: {reason}; see its log {log}")
