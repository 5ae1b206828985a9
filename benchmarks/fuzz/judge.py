"""Runs the commands on one input in this process, and judges exit codes, outputs, time."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from qdqgraph.calibration.noise import noise
from qdqgraph.cli.main import main
from qdqgraph.errors import QdqgraphError
from qdqgraph.model import runtime
from qdqgraph.rulekit import catalog

LIMIT = 20
"""Seconds of CPU time for one command."""
PATIENCE = 12
"""So many times as long may it take, on a machine with other work."""
FRAME = re.compile(r'File "[^"]*?((?:qdqgraph|rules)/[^"]*)", line (\d+), in (\S+)')
USERS = re.compile(r"^qdqgraph: .* failed with the \w+ above", re.MULTILINE)
"""After the traceback of a function of the user."""
DEFECT = re.compile(r"QDQ90[45]|onnx rejects the result|the result would not be a valid model|please report it")
"""In a sentence that says that qdqgraph, or a rule, is wrong, not the input."""
OWN = "a defect that it reports"
"""Not counted where onnx.checker or ONNX Runtime refuses the model: the type inference that a result is compared with
accepts more, for example a sequence before QuantizeLinear."""
ERROR = re.compile(r"^(\w[\w.]*(?:Error|Exception|Warning|Iteration|Interrupt)\w*)(?::|$)", re.MULTILINE)


def warm() -> None:
    """Reads the built-in rules and builds the argument parser once for all commands: they are not what is tested."""
    commands: Any = importlib.import_module("qdqgraph.cli.main")
    load, parser = catalog._rules, commands.parser()
    known = {path: list(load(path)) for path in catalog.rule_files(catalog.builtin_folder())}
    setattr(catalog, "_rules", lambda path: known[path] if path in known else load(path))  # noqa: B010
    commands.parser = lambda: parser


class Hang(BaseException):
    """A command took more than `LIMIT`."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a command on an input.

    Attributes:
        kind: "traceback", "unsound", "hang" or "died".
        place: what identifies it: error and line, or the check that failed.
        command: the command line.
    """

    kind: str
    place: str
    command: str


@dataclass(frozen=True)
class Ran:
    """A command that ended: exit code, what it printed, and its fault, if it has one."""

    code: int
    out: str
    err: str
    fault: Fault | None


@contextlib.contextmanager
def limited(seconds: int = LIMIT) -> Iterator[None]:
    """Raises `Hang` after so many seconds of CPU time, or `PATIENCE` times as long."""

    def late(number: int, frame: object) -> None:
        raise Hang

    clocks = ((signal.SIGPROF, signal.ITIMER_PROF, seconds), (signal.SIGALRM, signal.ITIMER_REAL, PATIENCE * seconds))
    old = [signal.signal(number, late) for number, _, _ in clocks]
    for _, clock, time in clocks:
        signal.setitimer(clock, time)
    try:
        yield
    finally:
        for (number, clock, _), handler in zip(clocks, old, strict=True):
            signal.setitimer(clock, 0)
            signal.signal(number, handler)


def command(arguments: Sequence[str]) -> Ran:
    """Runs a command."""
    out, err = io.StringIO(), io.StringIO()
    line = " ".join(arguments)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), limited():
            code = main(list(arguments))
    except Hang:
        return Ran(124, "", "", Fault("hang", arguments[0], line))
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException as error:  # noqa: BLE001 - anything that the last resort let through
        return Ran(3, "", "", Fault("traceback", f"escaped: {type(error).__name__}", line))
    text, fault = err.getvalue(), None
    if code == 3 or ("Traceback" in text and not USERS.search(text)):
        fault = Fault("traceback", _place(text), line)
    elif "QDQ901" in text and "crashed" in text and "--rules" not in arguments:
        crash = re.search(r"rule (\w+) crashed(?: at \S*?(\w+\.py:\d+))?: (\w+)", text)
        fault = Fault("traceback", " ".join(filter(None, crash.groups())) if crash else text[:200], line)
    elif (defect := DEFECT.search(text)) and "--rules" not in arguments and arguments[0] != "rules":
        fault = Fault("unsound", f"{OWN}: {defect[0]}", line)
    return Ran(code, out.getvalue(), text, fault)


def _place(text: str) -> str:
    cause = text.partition("The above exception was the direct cause")[0]
    frames, errors = FRAME.findall(cause), ERROR.findall(cause)
    where = "{}:{} {}".format(*frames[-1]) if frames else "?"
    return f"{errors[-1] if errors else '?'} at {where}"


def refused(path: Path) -> str:
    """Why onnx.checker refuses a file, "" if it does not."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # noqa: BLE001 - onnx raises several
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160] if str(error).strip() else ''}"
    return ""


def loads(path: Path) -> str:
    """Why ONNX Runtime does not load a file, "" if it does."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime raises several
        return str(error).strip().splitlines()[0][:200]
    return ""


class Judged:
    """The faults of one input."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def run(self, *arguments: Any) -> int:
        """Runs a command and keeps its fault; returns the exit code."""
        return self.ran(*arguments).code

    def ran(self, *arguments: Any) -> Ran:
        """The same, with what it printed."""
        done = command([str(a) for a in arguments])
        own = done.fault is not None and done.fault.place.startswith(OWN)
        if done.fault is not None and not (own and (refused(Path(arguments[1])) or loads(Path(arguments[1])))):
            self.faults.append(done.fault)
        return done

    def unsound(self, place: str, *arguments: Any) -> None:
        """Notes an unsound output."""
        self.faults.append(Fault("unsound", place, " ".join(map(str, arguments))))

    def result(self, source: Path, made: Path, arguments: Sequence[Any]) -> None:
        """Compares an output with its input: what accepts the input accepts the output."""
        if not made.exists():
            self.unsound("exit 0 without an output", *arguments)
        elif not refused(source):
            if fault := refused(made):
                self.unsound(f"full_check: {re.sub(r'[(].*', '', fault)[:90]}", *arguments)
            elif os.environ.get("FUZZ_ORT", "1") == "1" and not loads(source) and (fault := loads(made)):
                self.unsound(f"ONNX Runtime: {fault[:100]}", *arguments)

    def undone(self, plan: Path, made: Path, back: Path, before: bytes) -> None:
        """Undoes a plan: that gives the file back, in canonical bytes if it was in others."""
        if self.run("undo", plan, made, "-o", back) or back.read_bytes() == before:
            return
        try:
            canonical = onnx.ModelProto.FromString(before).SerializeToString(deterministic=True)
        except DecodeError:
            return
        if back.read_bytes() != canonical or canonical == before:
            self.unsound("undo: other bytes", "undo", plan, made)

    def exact(self, source: Path, made: Path, arguments: Sequence[Any]) -> None:
        """Runs a model and its bit-exact repair on the same noise: all outputs have the same bits."""
        model = onnx.load(source)
        try:
            feeds = noise(model, 1)
            first = runtime.run(model, feeds, source.parent)
        except (QdqgraphError, ValueError, MemoryError):  # noise of a dimension of 2**31 is more than there is
            return
        second = runtime.run(onnx.load(made), feeds, made.parent)
        for a, b in zip(first[0], second[0], strict=True):
            if np.asarray(a).tobytes() != np.asarray(b).tobytes():
                self.unsound("an exact repair changes an output", *arguments)
                return
