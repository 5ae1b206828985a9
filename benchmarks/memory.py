"""Memory and time of each command against the size of weights and of the graph, beside the floor in the same run.

    python -m benchmarks.memory [--megabytes 50 500 3000] [--forms float int8] [--stored inline external]
        [--nodes 20000 100000] [--commands check fix …] [--samples 2] [--folder FOLDER] [--most 10000]

The floor of reading and writing is onnx.load + onnx.save of the model file, whose external data stay where they are;
that of a numeric check is one ONNX Runtime session of the same file that runs once, with the options that qdqgraph
uses. The peak is that of the resident memory of a whole process, pages of mapped files included; in parentheses what
belongs to the process alone (RssAnon, sampled every 10 ms). Times are CPU times of whole processes. A command whose own
memory exceeds --most is ended, and its row says so. `fix --data` and calls from Python run only if they are named.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SIDE = 2048
"""Rows and columns of each weight."""
LOAD = "import onnx, sys; onnx.save(onnx.load(sys.argv[1], load_external_data=False), sys.argv[2])"
SESSION = """
import sys
from pathlib import Path
import numpy as np
import onnxruntime as ort
from qdqgraph.model.runtime import session_options
path = Path(sys.argv[1])
session = ort.InferenceSession(str(path), session_options(path.parent), providers=["CPUExecutionProvider"])
session.run(None, {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs()})
"""
MAKE = """
import sys
from pathlib import Path
from benchmarks.memory import make_weights, make_nodes
kind, size, form, stored, samples, path = sys.argv[1:]
size, samples, path = int(size), int(samples), Path(path)
make_nodes(size, path) if kind == "nodes" else make_weights(size, form, stored, path, samples)
"""
COMMANDS = {
    "check": ("check", "{model}", "--no-rehearsal"),
    "fix --no-numerics": ("fix", "{model}", "-o", "{out}", "--force", "--no-numerics"),
    "fix": ("fix", "{model}", "-o", "{out}", "--force"),
    "fix --fp16 --no-numerics": ("fix", "{model}", "-o", "{out}", "--force", "--fp16", "--no-numerics"),
    "fix --weights int8 --no-numerics": (
        "fix",
        "{model}",
        "-o",
        "{out}",
        "--force",
        "--weights",
        "int8",
        "--no-numerics",
    ),
    "strip": ("strip", "{model}", "-o", "{out}", "--force", "--nodes", "{layer}"),
    "fix --weights int8 --plan --no-numerics": (
        "fix",
        "{model}",
        "-o",
        "{out}",
        "--force",
        "--weights",
        "int8",
        "--plan",
        "{out}.plan",
        "--no-numerics",
    ),
    "fix --data --no-numerics": ("fix", "{model}", "-o", "{out}", "--force", "--data", "{samples}", "--no-numerics"),
}
CALL = "import qdqgraph, sys; qdqgraph.{}(sys.argv[1], output=sys.argv[2], force=True{})"
CALLS = {
    "fix() in Python": CALL.format("fix", ""),
    "fix(weights='int8', plan=…) in Python": CALL.format("fix", ", weights='int8', plan=sys.argv[2] + '.plan'"),
    "to_fp16() in Python": CALL.format("to_fp16", ""),
    "check() in Python": "import qdqgraph, sys; found = qdqgraph.check(sys.argv[1])",
    "fix().model in Python": CALL.format("fix", "") + ".model",
}
"""Calls in place of commands, of which a process makes one."""
ASKED = ("fix --weights int8 --plan --no-numerics", "fix --data --no-numerics")
"""Commands that run only if they are named; the second one reads the samples of `make_weights`."""
FLOORS = {"load + save": LOAD, "ONNX Runtime": SESSION}


@dataclass(frozen=True)
class Cost:
    """What a process needed: seconds of CPU time, MB at its peak, and MB of its own; `ended` if these were too many."""

    seconds: float
    memory: float
    own: float
    ended: bool = False

    def __str__(self) -> str:
        return "ended" if self.ended else f"{self.memory:,.0f} ({self.own:,.0f}) MB, {self.seconds:.1f} s"


def cost(words: Sequence[str], most: float) -> Cost:
    """Runs Python with these arguments, and ends it if it needs more than so many MB.

    The parent of the process is small, because the peak of a new process begins with the size of its parent.

    Raises:
        SystemExit: the process failed.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=errors)
        own, ended = 0.0, False
        while True:
            own = max(own, now := _own(process.pid))
            if now > most and not ended:
                os.kill(process.pid, signal.SIGKILL)
                ended = True
            done, status, used = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            time.sleep(0.01)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1) and not ended:
            errors.seek(0)
            raise SystemExit(errors.read().decode(errors="replace")[-2000:])
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, own, ended)


def _own(pid: int) -> float:
    """The MB that the processes of a command have for themselves: a command runs in a child of the first one."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        return sum(_anonymous(process.pid) for process in (first, *first.children(recursive=True)))
    return 0.0


def _anonymous(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("RssAnon"))


def make_weights(megabytes: int, form: str, stored: str, path: Path, samples: int = 2) -> None:
    """Writes a chain of quantized matrix products with residual sums, whose weights have this size.

    Args:
        megabytes: the size of all weights, in the form of the file.
        form: "float", upstream of their Q, or "int8".
        stored: "inline" or "external".
        path: the file; its external data are beside it.
        samples: of the input, in an .npz file beside it.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    each = SIDE * SIDE * (4 if form == "float" else 1)
    random = np.random.default_rng(0)
    block = random.integers(-127, 128, (SIDE, SIDE)).astype(np.int8)
    nodes, constants = [], [numpy_helper.from_array(np.zeros(SIDE, np.int8), "zeros")]
    constants.append(numpy_helper.from_array(np.full(SIDE, 0.0005, np.float32), "steps"))
    constants.append(numpy_helper.from_array(np.zeros((), np.int8), "zero"))
    location = path.name + ".data"

    def node(op: str, inputs: list[str], output: str, axis: int | None = None) -> str:
        nodes.append(helper.make_node(op, inputs, [output], output, axis=axis))
        return output

    def pair(x: str, number: int, scale: float) -> str:
        constants.append(numpy_helper.from_array(np.array(scale, np.float32), f"{x}.scale"))
        q = node("QuantizeLinear", [x, f"{x}.scale", "zero"], f"{x}.q")
        return node("DequantizeLinear", [q, f"{x}.scale", "zero"], f"{x}.dq")

    x = "x"
    with (path.parent / location if stored == "external" else Path(os.devnull)).open("wb") as file:
        for number in range(max(1, megabytes * 1_000_000 // each)):
            array = np.roll(block, number, axis=0)
            values = array if form == "int8" else array * np.float32(0.0005)
            tensor = TensorProto(
                name=f"w{number}", dims=(SIDE, SIDE), data_type=helper.np_dtype_to_tensor_dtype(values.dtype)
            )
            if stored == "external":
                tensor.data_location = TensorProto.EXTERNAL
                for name, value in (("location", location), ("offset", file.tell()), ("length", each)):
                    tensor.external_data.add(key=name, value=str(value))
                file.write(values.tobytes())
            else:
                tensor.raw_data = values.tobytes()
            constants.append(tensor)
            w = f"w{number}"
            if form == "float":
                w = node("QuantizeLinear", [w, "steps", "zeros"], f"{w}.q", axis=1)
            w = node("DequantizeLinear", [w, "steps", "zeros"], f"w{number}.dq", axis=1)
            y = node("MatMul", [pair(x, number, 0.05 + 0.0001 * number), w], f"layer{number}")
            x = node("Relu", [node("Add", [y, x], f"sum{number}")], f"out{number}") if number % 4 == 0 else y
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, SIDE]) for n in ("x", x)]
    graph = helper.make_graph(nodes, "weights", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString(deterministic=True))
    np.savez(path.with_suffix(".npz"), x=random.normal(size=(samples, SIDE)).astype("f"))


def make_nodes(nodes: int, path: Path) -> None:
    """Writes the detector backbone of `growing` with so many nodes."""
    from benchmarks.growing import backbone

    path.write_bytes(backbone(nodes).SerializeToString(deterministic=True))


def row(name: str, words: Sequence[str], commands: Sequence[str], folder: Path, most: float) -> None:
    """Prints what each command costs on one model."""
    path, out = folder / "model.onnx", folder / "out.onnx"
    subprocess.run([sys.executable, "-c", MAKE, *words, str(path)], check=True)
    samples = path.with_suffix(".npz")
    layer = "Conv_*" if words[0] == "nodes" else "layer0"
    for command in (*FLOORS, *commands):
        if command in CALLS:
            found = cost(["-c", CALLS[command], str(path), str(out)], most)
        elif command in FLOORS:
            if command not in commands and command != "load + save" and "fix" not in commands:
                continue
            found = cost(["-c", FLOORS[command], str(path), str(out)], most)
        else:
            words_of = [w.format(model=path, out=out, layer=layer, samples=samples) for w in COMMANDS[command]]
            found = cost(["-m", "qdqgraph", *words_of], most)
        print("|", " | ".join([name, command, str(found)]), "|", flush=True)
        for file in folder.glob("*out.onnx*"):
            file.unlink()
    for file in folder.iterdir():
        file.unlink()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="*", default=[50, 500, 3000])
    parser.add_argument("--forms", nargs="+", choices=("float", "int8"), default=["float", "int8"])
    parser.add_argument("--stored", nargs="+", choices=("inline", "external"), default=["inline", "external"])
    parser.add_argument("--nodes", type=int, nargs="*", default=[20000, 100000])
    parser.add_argument(
        "--commands", nargs="+", choices=(*COMMANDS, *CALLS), default=[c for c in COMMANDS if c not in ASKED]
    )
    parser.add_argument("--samples", type=int, default=2, help="samples for --data")
    parser.add_argument("--folder", type=Path, help="where the models are made; a temporary folder by default")
    parser.add_argument("--most", type=float, default=10000, help="MB of its own memory at which a process is ended")
    asked = parser.parse_args()
    print("| model | command | peak (own), CPU |")
    print("| --- | --- | --- |")
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        for megabytes in asked.megabytes:
            for stored in asked.stored:
                for form in asked.forms:
                    if stored == "inline" and megabytes >= 2000:  # protobuf's limit
                        continue
                    name = f"{megabytes:,} MB {form}, {stored}"
                    row(
                        name,
                        ["weights", str(megabytes), form, stored, str(asked.samples)],
                        asked.commands,
                        Path(place),
                        asked.most,
                    )
        for nodes in asked.nodes:
            row(f"{nodes:,} nodes", ["nodes", str(nodes), "-", "-", "0"], asked.commands, Path(place), asked.most)


if __name__ == "__main__":
    main()
