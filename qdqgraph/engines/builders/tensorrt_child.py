"""Builds an engine with TensorRT or TensorRT-RTX in a child process: `python -m … JOB.json`.

The job names the module to import, the model, shapes and types. All output is files in the folder of the job:
`result.json`, and the layers in the format of the library.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def build(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Parses and builds; returns the result for `result.json`: version, parser errors, and the stage that failed."""
    trt = importlib.import_module(job["module"])
    lines: list[tuple[int, str]] = []

    class Log(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            lines.append((int(severity), message))
            if severity <= trt.ILogger.WARNING:
                print(message, flush=True)  # noqa: T201 - the log of this process

    log = Log()
    result: dict[str, Any] = {"version": str(trt.__version__), "errors": []}
    builder = trt.Builder(log)
    network = builder.create_network(_flags(trt, job))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(job["model"]):
        result["errors"] = [_error(parser.get_error(i)) for i in range(parser.num_errors)]
        return {**result, "failed": "parse"}
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for flag in job["flags"]:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if job["compute_capability"]:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, job["compute_capability"]), 0)
    if job["shapes"]:
        _profile(builder, network, config, job["shapes"])
    blob = builder.build_serialized_network(network, config)
    if blob is None:
        said = [text for severity, text in lines if severity <= int(trt.ILogger.ERROR)]
        return {**result, "failed": "build", "said": said[-3:]}
    listed = [text for _, text in lines if text.startswith("Layers:")]
    if listed:
        (folder / "layers.txt").write_text(listed[-1], encoding="utf-8")
    if job["inspect"]:
        result["note"] = _inspected(trt, log, bytes(blob), folder)
    return result


def _flags(trt: Any, job: dict[str, Any]) -> int:
    """Returns the network creation flags of the job that this version has; 11.x and TensorRT-RTX lack some."""
    flags = trt.NetworkDefinitionCreationFlag
    return sum(1 << int(getattr(flags, name)) for name in job["network"] if hasattr(flags, name))


def _error(error: Any) -> dict[str, Any]:
    """Returns a parser error as JSON; versions before 10 give only the node index."""
    return {
        "text": str(error.desc()),
        "node": int(error.node()),
        "name": str(error.node_name()) if hasattr(error, "node_name") else "",
        "operator": str(error.node_operator()) if hasattr(error, "node_operator") else "",
        "function": str(error.func()),
    }


def _profile(builder: Any, network: Any, config: Any, shapes: dict[str, list[int]]) -> None:
    """Adds a profile with one shape per dynamic input, and ones for every shape input."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if tensor.is_shape_tensor:
            ones = [1] * max(1, *(int(d) for d in tensor.shape), 1)
            profile.set_shape_input(tensor.name, ones, ones, ones)
        elif tensor.name in shapes:
            profile.set_shape(tensor.name, *(shapes[tensor.name],) * 3)
    config.add_optimization_profile(profile)


def _inspected(trt: Any, log: Any, blob: bytes, folder: Path) -> str:
    """Writes the engine, measures times and writes the engine inspector's output; returns a note, or "".

    The inspector gets an execution context, which resolves dynamic dimensions.
    """
    times = importlib.import_module(f"{__package__}.tensorrt_times")
    (folder / "model.engine").write_bytes(blob)
    engine = trt.Runtime(log).deserialize_cuda_engine(blob)
    if engine is None:
        return "the engine was built but cannot be loaded here, so no layers were read"
    context = engine.create_execution_context()
    note = str(times.measure(trt, engine, context, folder))
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context
    said = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    (folder / "layers.json").write_text(said, encoding="utf-8")
    return note


def main() -> None:
    """Reads the job, builds, writes the result."""
    job = Path(sys.argv[1])
    result = build(json.loads(job.read_text(encoding="utf-8")), job.parent)
    (job.parent / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
