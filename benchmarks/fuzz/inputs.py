"""One input: a mutated file in a folder, and the commands that read it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import onnx

from . import mutate
from .judge import Fault, Judged
from .seeds import SETTINGS, arrays, seeds

KINDS = ("model",) * 14 + ("plan", "engine", "ranges", "rule", "rule", "settings", "arrays", "statistics")
QUIET = ("--no-config", "--no-packs")
FIXES: tuple[tuple[str, ...], ...] = (
    (),
    ("--exact",),
    ("--fp16",),
    ("--weights", "float"),
    ("--weights", "int8"),
    ("--also", "QDQ1,QDQ2,QDQ3,QDQ4"),
    ("--target", "trt-8.6"),
    ("--target", "trt-11", "--also", "QDQ4"),
    ("--policy", "output", "--max-bits-lost", "9"),
)


def judged(folder: Path, seed: str) -> tuple[Fault, ...]:
    """Makes the input of a seed in an empty folder and runs the commands; returns their faults."""
    random, found = Random(seed), Judged()
    if seed.startswith("w"):
        from . import wide  # its networks take a second

        wide.judge(folder, random, found)
        return tuple(found.faults)
    if seed.startswith("x"):
        from . import commands

        commands.judge(folder, random, found)
        return tuple(found.faults)
    kind = random.choice(KINDS)
    if kind == "model":
        _model(folder, random, found)
    else:
        _other(kind, folder, random, found)
    return tuple(found.faults)


def _model(folder: Path, random: Random, found: Judged) -> None:
    base = random.choice(seeds().models)
    path = folder / "m.onnx"
    path.write_bytes(mutate.model(base, random))
    on_model(path, base, random, found)


def on_model(path: Path, base: onnx.ModelProto, random: Random, found: Judged) -> None:
    """Runs each command on a file.

    Args:
        path: the file, in a folder for the outputs.
        base: the model that it was made from.
        random: chooses options.
        found: gets the faults.
    """
    folder = path.parent
    found.run("check", path, *QUIET)
    found.run("engine", "forecast", path)
    out, plan = folder / "out.onnx", folder / "plan.json"
    numerics = () if random.random() < 0.15 else ("--no-numerics",)
    options = (*random.choice(FIXES), *numerics)
    fix = ("fix", path, "-o", out, "--plan", plan, *options, *QUIET)
    before = path.read_bytes()
    if found.run(*fix) == 0:
        found.result(path, out, fix)
        again(path, out, plan, before, options, found)
    stripped = folder / "stripped.onnx"
    strip = ("strip", path, "--nodes", "*", "-o", stripped)
    if found.run(*strip) == 0:
        found.result(path, stripped, strip)
    for other in ("explain", "why"):
        if other == "why" and random.random() < 0.2:
            found.run("why", "QDQ101", path, "--at", "x", *QUIET)
    if random.random() < 0.2:
        base_path = folder / "base.onnx"
        base_path.write_bytes(base.SerializeToString())
        found.run("diff", base_path, path)
        found.run("draw", path, "-o", folder / "m.svg", *QUIET)
        found.run("engine", "diff", base_path, path)
    if random.random() < 0.1:
        found.run("error", path, "--data", arrays(folder, base), *QUIET)
    if random.random() < 0.15:
        table = folder / "table.json"
        names = [*(i.name for i in base.graph.input), *(name for node in base.graph.node for name in node.output)]
        ranges = {name: [{"bitwidth": 8, "max": 1.0, "min": -1.0}] for name in names}
        table.write_text(json.dumps({"version": "0.6.1", "activation_encodings": ranges, "param_encodings": {}}))
        quantized = folder / "q.onnx"
        quantize = ("quantize", path, "-o", quantized, "--ranges", table, "--no-numerics", *QUIET)
        if found.run(*quantize) == 0:
            found.result(path, quantized, quantize)
    if path.read_bytes() != before:
        found.unsound("the input was changed", path)


def again(path: Path, out: Path, plan: Path, before: bytes, options: tuple[str, ...], found: Judged) -> None:
    """A second run changes nothing; apply gives the same file, undo the original."""
    folder = path.parent
    second, back, applied = (folder / name for name in ("second.onnx", "back.onnx", "applied.onnx"))
    again = ("fix", out, "-o", second, *options, *QUIET)
    ran = found.ran(*again)
    if ran.code == 2 and {"--only", "--except"} & set(options):  # nothing has such a name any more
        return
    if ran.code == 2 and "beyond the range of float16" in ran.err:  # with --no-numerics, inputs become FP16 unmeasured
        return
    if ran.code != 0:
        found.unsound(f"second run: exit {ran.code}", *again)
    elif second.read_bytes() != out.read_bytes():
        found.unsound("second run: other bytes", *again)
    if found.run("apply", plan, path, "-o", applied) == 0 and applied.read_bytes() != out.read_bytes():
        found.unsound("apply: other bytes", "apply", plan, path)
    found.undone(plan, out, back, before)


def _other(kind: str, folder: Path, random: Random, found: Judged) -> None:
    base = random.choice(seeds().models[:12])
    model = folder / "m.onnx"
    model.write_bytes(base.SerializeToString(deterministic=True))
    if kind in ("plan", "engine", "ranges"):
        document = random.choice([d for name, d in seeds().documents if name == kind])
        if kind == "plan" and random.random() < 0.8:
            plan = folder / "own.json"
            found.run("fix", model, "--plan", plan, "-o", folder / "f.onnx", "--no-numerics", *QUIET)
            document = json.loads(plan.read_text()) if plan.exists() else document
        path = folder / "doc.json"
        path.write_bytes(mutate.document(document, random))
        if kind == "plan":
            found.run("apply", path, model, "-o", folder / "o.onnx")
            found.run("undo", path, model, "-o", folder / "o2.onnx")
        elif kind == "engine":
            found.run("engine", "read", path)
            found.run("engine", "diff", path, model)
            found.run("engine", "time", path)
            found.run("engine", "draw", path, "-o", folder / "e.svg")
        else:
            found.run("fix", model, "--ranges", path, "--no-numerics", "-o", folder / "o.onnx", *QUIET)
    elif kind == "rule":
        name, text = random.choice(seeds().rules)
        if name.endswith(".py"):
            text = text.replace("QDQ", "MYX")
        path = folder / name
        path.write_bytes(mutate.text(text.replace('code = "QDQ', 'code = "MYX'), random))
        found.run("check", model, "--rules", path, *QUIET)
        found.run("explain", "QDQ101", "--rules", path)
        found.run("rules", "test", path)
        found.run("rules", "pages", path, "-o", folder / "pages", "--force")
    elif kind == "settings":
        rule = next(text for name, text in seeds().rules if name.endswith(".toml"))
        (folder / "rule.toml").write_text(rule.replace('code = "QDQ', 'code = "MYX'))
        path = folder / "pyproject.toml"
        path.write_bytes(mutate.text(SETTINGS, random))
        found.run("check", model, "--config", path)
    elif kind == "arrays":
        data = arrays(folder, base)
        data.write_bytes(mutate.raw(data.read_bytes(), random))
        found.run("fix", model, "--data", data, "-o", folder / "o.onnx", *QUIET)
        found.run("error", model, "--data", data, *QUIET)
    else:
        data, kept = arrays(folder, base), folder / "s.npz"
        found.run("fix", model, "--data", data, "--statistics", kept, "--dry-run", *QUIET)
        if kept.exists():
            kept.write_bytes(mutate.raw(kept.read_bytes(), random))
            found.run("fix", model, "--data", data, "--statistics", kept, "--dry-run", *QUIET)
            found.run("fix", model, "--ranges", kept, "--dry-run", *QUIET)
