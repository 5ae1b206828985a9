"""Inputs whose seed begins with "w": other forms of networks, external data, options, data, tables, engine files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

import qdqgraph
from qdqgraph.errors import QdqgraphError
from tests.support.paths import ROOT

from . import mutate
from .dress import dressed
from .inputs import QUIET, again
from .judge import Judged
from .networks import networks
from .seeds import SETTINGS

DATA = ROOT / "tests" / "data"
TARGETS = ("trt-8.6", "trt-10", "trt-11", "trt-rtx")
FORMATS = ("text", "json", "github", "sarif", "junit", "markdown")
LARGEST = 1 << 20
"""Elements of the largest sample."""
OPTIONS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.25, ("--fp16",)),
    (0.15, ("--weights", "int8")),
    (0.15, ("--weights", "float")),
    (0.15, ("--also", "QDQ1,QDQ2,QDQ3,QDQ4")),
    (0.10, ("--policy", "output")),
    (0.05, ("--policy", "fixed:0.1")),
    (0.05, ("--policy", "fixed:1e-30")),
    (0.10, ("--max-bits-lost", "9")),
    (0.05, ("--max-bits-lost", "0")),
    (0.10, ("--only", "*1*")),
    (0.05, ("--except", "*c*")),
    (0.05, ("--ignore", "QDQ2")),
    (0.05, ("--select", "QDQ1,QDQ4")),
    (0.05, ("--no-provenance",)),
)
MEASURED: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.2, ("--bias-correction",)),
    (0.2, ("--round-weights",)),
    (0.15, ("--equalize",)),
    (0.2, ("--keep-scales",)),
    (0.2, ("--calibrate", "percentile", "--percentile", "99")),
    (0.2, ("--calibrate", "entropy")),
    (0.2, ("--samples", "2")),
)


def judge(folder: Path, random: Random, found: Judged) -> None:
    """Makes an input in an empty folder and runs commands on it."""
    kind = random.random()
    if kind < 0.12:
        _file(folder, random, found)
        return
    base = dressed(random.choice(networks()), random)
    path = folder / "m.onnx"
    _save(base, path, random)
    if random.random() < 0.12:
        _floats(path, base, random, found)
        return
    _check(path, random, found)
    _fix(path, base, random, found)
    if random.random() < 0.15:
        _others(path, base, random, found)


def _save(base: onnx.ModelProto, path: Path, random: Random) -> None:
    """Writes a model: mutated in three of five cases, with external data in one of five."""
    content = mutate.model(base, random) if random.random() < 0.6 else base.SerializeToString()
    path.write_bytes(content)
    if random.random() > 0.2:
        return
    try:
        model = onnx.ModelProto.FromString(content)
        onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    except Exception:  # noqa: BLE001 - a model that onnx cannot save stays as it is
        path.write_bytes(content)
        return
    data = path.with_name("m.data")
    if data.exists() and random.random() < 0.3:
        data.write_bytes(mutate.raw(data.read_bytes(), random))


def _drawn(options: tuple[tuple[float, tuple[str, ...]], ...], random: Random) -> tuple[str, ...]:
    """Some of the options, each at most once."""
    chosen = {option[0]: option for share, option in options if random.random() < share}
    if "--only" in chosen:
        chosen.pop("--except", None)
    return tuple(word for option in chosen.values() for word in option)


def _check(path: Path, random: Random, found: Judged) -> None:
    more = ("--full",) if random.random() < 0.3 else ("--format", random.choice(FORMATS))
    found.run("check", path, "--target", random.choice(TARGETS), *more, *QUIET)


def _fix(path: Path, base: onnx.ModelProto, random: Random, found: Judged) -> None:
    folder, out, plan = path.parent, path.with_name("out.onnx"), path.with_name("plan.json")
    options = _drawn(OPTIONS, random)  # with --fp16 and --weights float, a sentence
    exact = random.random() < 0.15
    if exact:
        options = ("--exact", *(word for word in options if word != "--fp16"))
    if "--fp16" in options and random.random() < 0.3:
        options += ("--keep-io",)
    options += ("--target", random.choice(TARGETS)) if random.random() < 0.25 else ()
    measured = not exact and random.random() < 0.12
    if measured:
        options += ("--data", str(samples(path.with_name("d.npz"), base, random)), *_drawn(MEASURED, random))
        options += ("--statistics", str(folder / "s.npz")) if random.random() < 0.3 else ()
    elif not exact and random.random() < 0.08:
        options += ("--ranges", str(table(path.with_name("t.txt"), base, random)))
    if measured or random.random() < 0.75:
        options += ("--no-numerics",)
    shown = random.choice(((), (), ("-v", "--diff"), ("--format", "json"), ("--format", "markdown"), ("-q",)))
    before = path.read_bytes()
    fix = ("fix", path, "-o", out, "--plan", plan, *options, *shown, *QUIET)
    if found.run(*fix) == 0:
        found.result(path, out, fix)
        again(path, out, plan, before, options, found)
        if exact:
            found.exact(path, out, fix)
    if path.read_bytes() != before:
        found.unsound("the input was changed", path)


def _others(path: Path, base: onnx.ModelProto, random: Random, found: Judged) -> None:
    """Commands that only read, and `strip`."""
    stripped = path.with_name("stripped.onnx")
    strip = ("strip", path, "--nodes", random.choice(("*", "*1*", "y")), "-o", stripped)
    if found.run(*strip) == 0:
        found.result(path, stripped, strip)
        found.run("diff", path, stripped)
    found.run("report", path, "-o", path.with_name("r.html"), *QUIET)
    found.run("draw", path, "-o", path.with_name("d.svg"), *QUIET)
    found.run("engine", "forecast", path, "--target", random.choice(TARGETS))
    found.run("engine", "time", path)
    name = next((name for node in base.graph.node for name in node.output), "x")
    found.run("why", random.choice(("QDQ101", "QDQ405", "QDQ206", "QDQ301")), path, "--at", name, *QUIET)
    data = samples(path.with_name("d.npz"), base, random)
    kind = random.random()
    if kind < 0.4:
        found.run("error", path, "--data", data, *QUIET)
    elif kind < 0.6:
        found.run("error", path, "--data", data, "--as", random.choice(TARGETS), *QUIET)
    elif kind < 0.7:
        found.run("sensitivity", path, "--data", data, *QUIET)
    elif kind < 0.75:
        tuned = path.with_name("tuned.onnx")
        tune = ("tune", path, "--data", data, "--budget-db", "10", "--trials", "2", "-o", tuned, *QUIET)
        if found.run(*tune) == 0:
            found.result(path, tuned, tune)


def _floats(path: Path, base: onnx.ModelProto, random: Random, found: Judged) -> None:
    """A float network, quantized by a table, by data, or by both; and undone."""
    try:
        plain = qdqgraph.strip(base, nodes=["*"]).model
    except QdqgraphError:
        plain = base
    _save(plain, path, random)
    options: tuple[str, ...] = ("--no-numerics",) if random.random() < 0.8 else ()
    if random.random() < 0.7:
        options += ("--ranges", str(table(path.with_name("t.txt"), plain, random)))
    if random.random() < 0.4 or "--ranges" not in options:
        options += ("--data", str(samples(path.with_name("d.npz"), plain, random)), *_drawn(MEASURED[:3], random))
    options += ("--target", random.choice(TARGETS)) if random.random() < 0.3 else ()
    out, plan, back = (path.with_name(name) for name in ("q.onnx", "plan.json", "back.onnx"))
    before = path.read_bytes()
    quantize = ("quantize", path, "-o", out, "--plan", plan, *options, *QUIET)
    if found.run(*quantize) == 0:
        found.result(path, out, quantize)
        if found.run("check", out, *QUIET) == 2:
            found.unsound("check refuses what quantize wrote", *quantize)
        found.undone(plan, out, back, before)


def samples(path: Path, model: onnx.ModelProto, random: Random) -> Path:
    """Three samples of each input, in one file."""
    draw, arrays = np.random.default_rng(random.randrange(2**32)), {}
    given = {tensor.name for tensor in model.graph.initializer}
    for info in model.graph.input:
        kind = info.type.tensor_type
        if not info.name or info.name in given or kind.elem_type in (TensorProto.UNDEFINED, TensorProto.STRING):
            continue
        shape = [max(1, dim.dim_value or 2) for dim in kind.shape.dim]
        shape = [3 * shape[0], *shape[1:]] if shape else [3]
        try:
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        except KeyError:
            continue
        shape = shape if np.prod(shape, dtype=np.float64) < LARGEST else [1]
        values = draw.standard_normal(shape) if random.random() < 0.9 else np.full(shape, random.choice(mutate.REALS))
        with np.errstate(all="ignore"):
            arrays[info.name.replace("/", "_")] = values.astype(dtype)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return path


def table(path: Path, model: onnx.ModelProto, random: Random) -> Path:
    """A table of ranges in one of the formats, with mutations in half of them."""
    names = [*(i.name for i in model.graph.input), *(n for node in model.graph.node for n in node.output if n)]
    ranges = {name: random.choice((0.5, 1.0, 3.0, 1e-6)) for name in names if random.random() < 0.95}
    text = random.choice((_tensorrt, _onnxruntime, _aimet))(ranges)
    path.write_bytes(mutate.text(text, random) if random.random() < 0.4 else text.encode())
    return path


def _tensorrt(ranges: Mapping[str, float]) -> str:
    lines = (f"{name}: {np.float32(amax / 127).view(np.uint32):08x}" for name, amax in ranges.items())
    return "\n".join(("TRT-8601-EntropyCalibration2", *lines)) + "\n"


def _onnxruntime(ranges: Mapping[str, float]) -> str:
    def array(value: float) -> dict[str, Any]:
        return {"CLS": "numpy.array", "data": [value], "dtype": "float32"}

    data = {name: {"CLS": "TensorData", "lowest": array(-a), "highest": array(a)} for name, a in ranges.items()}
    return json.dumps({"CLS": "TensorsData", "calibration_method": "MinMax", "data": data}, indent=1)


def _aimet(ranges: Mapping[str, float]) -> str:
    entries = [
        {"name": name, "bw": 8, "is_sym": True, "scale": [a / 127], "offset": [-128]} for name, a in ranges.items()
    ]
    return json.dumps({"version": "1.0.0", "activation_encodings": entries, "param_encodings": []}, indent=1)


def _file(folder: Path, random: Random, found: Judged) -> None:
    """Another file: layer info, a profile, a log, a rule, settings."""
    model = folder / "m.onnx"
    model.write_bytes(random.choice(networks()[:60]).SerializeToString())
    kind = random.randrange(4)
    if kind == 0:
        source = random.choice([p for p in sorted(DATA.iterdir()) if p.suffix in (".json", ".txt", ".log")])
        path = folder / source.name
        text = source.read_text()
        structured = source.suffix == ".json" and random.random() < 0.7
        path.write_bytes(mutate.document(json.loads(text), random) if structured else mutate.text(text, random))
        found.run("engine", "read", DATA / "qat.graph.json", "--profile", path)
        found.run("engine", "read", path, "-o", folder / "e.json")
        found.run("engine", "time", path, "--measured", DATA / "qat.graph.json", path)
        found.run("engine", "diff", path, DATA / "qat.graph.json")
        found.run("engine", "draw", path, "-o", folder / "e.svg")
        found.run("check", path, *QUIET)
    elif kind == 1:
        source = random.choice(sorted((ROOT / "samples" / "rules").glob("*.toml")))
        path = folder / source.name
        path.write_bytes(mutate.text(source.read_text(), random))
        found.run("fix", model, "-o", folder / "o.onnx", "--rules", path, "--no-numerics", *QUIET)
        found.run("rules", "test", path)
        found.run("why", "MYX", model, "--at", "*", "--rules", path, *QUIET)
    elif kind == 2:
        path = folder / "pyproject.toml"
        table = SETTINGS.replace('rules = ["rule.toml"]\n', "").replace(
            'ignore = ["QDQ2"]', "fp16 = true\ntarget = 'trt-11'"
        )
        path.write_bytes(mutate.text(table, random))
        found.run("check", model, "--config", path)
        found.run("fix", model, "-o", folder / "o.onnx", "--config", path, "--no-numerics")
    else:
        plan = folder / "plan.json"
        found.run("fix", model, "--plan", plan, "-o", folder / "f.onnx", "--fp16", "--no-numerics", *QUIET)
        if plan.exists():
            plan.write_bytes(mutate.document(json.loads(plan.read_text()), random))
            found.run("undo", plan, folder / "f.onnx", "-o", folder / "b.onnx")
            found.run("apply", plan, model, "-o", folder / "a.onnx")
