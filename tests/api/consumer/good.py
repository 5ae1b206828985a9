"""A program of a user, as `mypy --strict` sees it: everything here is right."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

import qdqgraph

logging.basicConfig(level=logging.INFO)


def batches() -> Iterator[dict[str, np.ndarray]]:
    yield {"x": np.ones((1, 4, 8, 8), np.float32)}


def findings(path: Path) -> list[str]:
    found: qdqgraph.Checked = qdqgraph.check(path, select=["QDQ1"], ignore=["QDQ102"], target="trt-10")
    first: list[qdqgraph.Finding] = [finding for finding in found if finding.severity is qdqgraph.Severity.ERROR]
    print(len(found), found[0].code, found.int8.sentence, found.summary(), found.to_json())
    return [finding.code for finding in first]


def repaired(model: onnx.ModelProto) -> onnx.ModelProto:
    result: qdqgraph.Result = qdqgraph.fix(
        model,
        output="fixed.onnx",
        plan="plan.json",
        force=True,
        data=batches,
        memory="1GiB",
        ranges="calibration.cache",
        also=["QDQ403"],
        skip=("/head/*",),
        max_bits_lost=1.5,
        weights="int8",
        progress=print,
    )
    plan: qdqgraph.Plan = result.plan
    print(result.summary(), result.to_json(), result.written, plan.diff())
    half: qdqgraph.Fp16Model = qdqgraph.to_fp16(result.model, keep_io=True, magnitudes={"x": 3.0})
    applied: onnx.ModelProto = qdqgraph.apply(plan, model)
    return applied if half.casts else qdqgraph.undo(plan, result.model)


def quantized(path: str) -> qdqgraph.Result:
    options = qdqgraph.Options(policy="output", only=("conv*",))
    rules: tuple[qdqgraph.Rule, ...] = qdqgraph.rules(["my_rules"], select=["QDQ2"])
    stripped = qdqgraph.strip(path, ["/head/*"], select=["QDQ403"])
    return qdqgraph.quantize(stripped.model, rules, options, data=batches)


def measured(path: str) -> float:
    layers: qdqgraph.Accuracy = qdqgraph.error(path, "inputs.npz", target="trt-11")
    units: qdqgraph.Sensitivity = qdqgraph.sensitivity(path, batches, by="block", mode="both", output="units.json")
    engine: qdqgraph.EngineNumbers = qdqgraph.engine_error(path, batches, "trt-10")
    tuned: qdqgraph.Tuned = qdqgraph.tune(path, batches, budget_db=25.0, bias_correction=True)
    status: qdqgraph.SearchStatus = qdqgraph.tune_status("sqlite:///tune.db")
    answer: qdqgraph.Answer = qdqgraph.why("QDQ101", path, "cat1", max_bits_lost=2.0)
    print(units.total, engine.samples, tuned.summary(), status.measured, answer.applies, qdqgraph.diff(path, path))
    return layers.layers[0].alone.sqnr


def engines(path: str) -> qdqgraph.Diff:
    ahead: qdqgraph.Engine = qdqgraph.forecast(path, "trt-10", output="ahead.json", force=True)
    built: qdqgraph.Engine = qdqgraph.build(path, "tensorrt-rtx", shapes={"x": (1, 3, 224, 224)})
    read: qdqgraph.Engine = qdqgraph.read_engine("layers.json", profile="profile.json")
    times: tuple[qdqgraph.Estimate, ...] = qdqgraph.estimate([ahead, built], device="orin", fp16=True)
    print(times[0].ms)
    return qdqgraph.compare(ahead, read)


def guarded(path: str) -> str:
    try:
        qdqgraph.fix(path)
    except qdqgraph.ModelError as error:
        return str(error)
    except qdqgraph.QdqgraphError:
        raise
    return qdqgraph.__version__
