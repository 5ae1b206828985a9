"""Mutated models, plans, rules, settings, engines and tables through every command.

    python -m benchmarks.fuzz --minutes 60 --seed 1
    python -m benchmarks.fuzz --only 1:1234 --keep FOLDER

Each input follows from its number: `SEED:NUMBER` is a file of the repository with mutations, `wSEED:NUMBER` a network
in another form (`dress`), with drawn options, data and tables, `xSEED:NUMBER` any commands with any of their options,
which come from the parser, on files of every kind, some of them damaged; a run takes all three. Its commands run in one
process, which ends after some inputs, or when a command takes the process with it (memory, a crash in a library).
Prints each new fault once, with its input, and at the end the counts; exits with 1 if there is a fault. `corpus.txt`
lists inputs that once failed; the tests run them. Counted are tracebacks (exit code 3, and crashed rules), outputs that
onnx.checker or ONNX Runtime refuse while it accepts the input, exact repairs that change an output, second runs that
change bytes, undo that does not restore, files that are written although the exit code is 2, texts with control
characters, JSON that does not fit its schema, commands of more than 20 s of CPU time, and dead processes.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["QDQGRAPH_TRACEBACK"] = "1"

from qdqgraph.cli import accuracy, check, engine, fix, plans, report, rules, tune  # noqa: F401 - loaded once, before the forks

from .inputs import judged
from .judge import LIMIT, PATIENCE, Fault, warm
from .seeds import seeds

KINDS = ("", "w", "x")
"""Beginnings of the names of inputs."""
BATCH = 39
"""Inputs of one process."""
MEMORY = 6 << 30
"""Bytes that a process may take."""


def faults_of(inputs: Iterable[str], keep: Path | None = None) -> Iterator[tuple[str, Fault]]:
    """Runs inputs in other processes; yields the faults, each with its input."""
    pending = list(inputs)
    while pending:
        done, found = _batch(pending[:BATCH], keep)
        yield from found
        if done < len(pending[:BATCH]):
            yield pending[done], Fault("died", "the process ended", "")
            done += 1
        pending = pending[done:]


def _batch(inputs: list[str], keep: Path | None) -> tuple[int, list[tuple[str, Fault]]]:
    """Runs inputs in a forked process; returns how many it finished, and the faults."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _child(inputs, write, keep)
    os.close(write)
    with os.fdopen(read) as lines:
        texts = [line.rstrip("\n").split("\t") for line in lines]
    os.waitpid(child, 0)
    found = [(text[1], Fault(text[2], text[3], text[4])) for text in texts if text[0] == "fault" and len(text) == 5]
    return sum(text[0] == "done" for text in texts), found


def _child(inputs: list[str], write: int, keep: Path | None) -> None:
    """Runs the inputs and ends the process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    if keep is None:
        os.dup2(null, 2)
    try:
        for number in inputs:
            faulthandler.dump_traceback_later(4 * PATIENCE * LIMIT, exit=True)  # where Python gets no turn
            here = Path(tempfile.mkdtemp(prefix=number.replace(":", "-") + "-", dir=keep))
            os.chdir(here)
            for fault in judged(here, number):
                parts = (re.sub(r"[\t\n]", " ", text) for text in (fault.kind, fault.place, fault.command))
                os.write(write, ("\t".join(("fault", number, *parts)) + "\n").encode("utf-8", "replace"))
            os.chdir("/")
            if keep is None:
                shutil.rmtree(here)
            os.write(write, b"done\n")
    except BaseException as error:  # noqa: BLE001 - the process ends here in any case
        os.write(write, f"fault\t{number}\ttraceback\tfuzzer: {error!r}\t-\n".encode("utf-8", "replace"))
        os.write(2, repr(error).encode())
    finally:
        os._exit(0)


def main() -> int:
    """Runs the fuzzer; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0, help="time of the run (default: 2)")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--start", type=int, default=0, help="first number")
    parser.add_argument("--only", nargs="+", help="run these inputs, SEED:NUMBER")
    parser.add_argument("--keep", type=Path, help="keep the files of each input in this folder")
    args = parser.parse_args()
    seeds()
    warm()
    begin, number, done, seen = time.monotonic(), args.start, 0, Counter[tuple[str, str]]()
    if args.keep is not None:
        args.keep = args.keep.resolve()
        args.keep.mkdir(parents=True, exist_ok=True)

    def batches() -> Iterator[list[str]]:
        nonlocal number
        while args.only is None and time.monotonic() < begin + 60 * args.minutes:
            numbers = range(number, number + BATCH // len(KINDS))
            yield [f"{letter}{args.seed}:{n}" for n in numbers for letter in KINDS]
            number = numbers.stop
        if args.only is not None:
            yield args.only

    for inputs in batches():
        done += len(inputs)
        for name, fault in faults_of(inputs, args.keep):
            identity = (fault.kind, fault.place)
            seen[identity] += 1
            if seen[identity] == 1:
                print(f"{name}  {fault.kind}: {fault.place}\n    {fault.command}", flush=True)
    minutes, used = (time.monotonic() - begin) / 60, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (used.ru_utime + used.ru_stime) / 60
    kinds = Counter(dict.fromkeys(("traceback", "unsound", "hang", "died"), 0))
    for (kind, _), count in seen.items():
        kinds[kind] += count
    counts = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
    print(f"{done} inputs in {minutes:.1f} minutes ({cpu:.1f} of CPU): {counts}; {len(seen)} different faults")
    for (kind, place), count in seen.most_common():
        print(f"{count:6} {kind}: {place}")
    return 1 if seen else 0


if __name__ == "__main__":
    sys.exit(main())
