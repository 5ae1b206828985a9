"""Commands that write files, ended by a signal at a random moment: what is in their folders afterwards.

    python -m benchmarks.kills --kills 1000 --seed 1

Each kill is a command (`fix`, also with --fp16 and --weights int8, `strip`, `apply`, `undo`) on a small model, inline
or with external data, into its own folder, another one, or in place, with and without an earlier result and a plan. It
gets SIGKILL, SIGINT, SIGTERM or SIGHUP: in one half of the runs at any moment, in the other half after it has begun to
write; one run in twenty is a process of its own, whose imports can be hit. A signal after the end is no kill. Counted
are

    mixed      a model that does not load, or is neither the old nor the new one with its own data; a plan of the other
    destroyed  an input, or a file of somebody else, that changed
    leftovers  files that neither the old nor the new state has, after the next command that writes there; after SIGINT,
               SIGTERM and SIGHUP at once
    untrue     after these signals: more than one line on stderr, another exit code, or "nothing was written" although
               something was

Prints each fault, at the end the counts; exits with 1 if there is one. Everything follows from the seed, except for the
speed of the machine.
"""

from __future__ import annotations

import argparse
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.fuzz.judge import warm
from benchmarks.kill_processes import run, said, spawned
from benchmarks.kill_settings import Setting
from qdqgraph.model.writing.texts import write_text
from tests.support.writes import files

SIGNALS = ("SIGKILL",) * 5 + ("SIGINT", "SIGTERM", "SIGHUP")
PER_SETTING = 25
"""Signals in one setting, for which the state after an undisturbed run is made once."""
PYTHON = "Could not import runpy module"
"""What Python itself says when SIGINT comes before it runs the package."""
LONGEST = 60.0
"""Seconds after which a process counts as hanging."""


@dataclass
class Counts:
    """What was found.

    Attributes:
        faults: how many of each kind.
        ends: how processes ended: by which signal, with which state.
    """

    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)

    def fault(self, kind: str, setting: Setting, what: str) -> None:
        """Counts and prints one."""
        self.faults[kind] += 1
        print(f"{kind}: {' '.join(setting.arguments)}: {what}", flush=True)


def _times(setting: Setting, folder: Path) -> tuple[float, float]:
    """Seconds of an undisturbed run, and from its first written file to the end."""
    read, write = os.pipe()
    begin = time.monotonic()
    process = run(folder, setting.arguments, lambda: os.write(write, b"x"))
    os.close(write)
    os.read(read, 1)
    first = time.monotonic()
    status = os.waitpid(process, 0)[1]
    end = time.monotonic()
    os.close(read)
    if status:
        raise SystemExit(f"{' '.join(setting.arguments)}: {said(folder).read_text()}")
    return end - begin, end - first


@dataclass(frozen=True)
class States:
    """The states of a setting before and after its command.

    Attributes:
        before, after: the files, with their content.
        old, new: what `Setting.loaded` says of the output.
        whole, writing: seconds of the command, and of its writing.
    """

    before: dict[str, bytes]
    after: dict[str, bytes]
    old: str
    new: str
    whole: float
    writing: float

    @classmethod
    def of(cls, setting: Setting) -> States:
        """Those of a prepared setting."""
        done = setting.folder.with_name("done")
        shutil.copytree(setting.folder, done)
        whole, writing = _times(setting, done)
        before, after, new = files(setting.folder), files(done), setting.loaded(done)
        shutil.rmtree(done)
        return cls(before, after, setting.loaded(setting.folder), new, whole, writing)


def _killed(setting: Setting, folder: Path, states: States, name: str, random: Random) -> int:
    """Runs the command and sends it a signal at a random moment; returns its status."""
    kind = random.random()
    if kind < 0.05:
        process = spawned(folder, setting.arguments)
        time.sleep(random.uniform(0, states.whole + 1.2))
    elif kind < 0.5:
        process = run(folder, setting.arguments)
        time.sleep(random.uniform(0, 1.05 * states.whole))
    else:
        read, write = os.pipe()
        process = run(folder, setting.arguments, lambda: os.write(write, b"x"))
        os.close(write)
        select.select([read], [], [], LONGEST)
        os.close(read)
        time.sleep(random.uniform(0, 1.05 * states.writing))
    try:
        os.kill(process, getattr(signal, name))
    except ProcessLookupError:  # not waited for yet, so this does not happen
        return 0
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return -1


def _judge(setting: Setting, folder: Path, states: States, name: str, status: int, counts: Counts) -> None:
    """Compares what is there with the two states, at once and after another command has written."""
    now, model = files(folder), setting.loaded(folder)
    own = {path for path in {**states.before, **states.after} if states.before.get(path) != states.after.get(path)}
    lost = [path for path, content in states.before.items() if path not in own and now.get(path) != content]
    if lost:
        counts.fault("destroyed", setting, f"{name}: {', '.join(lost)}")
    if model not in (states.old, states.new):
        counts.fault("mixed", setting, f"{name}: the output is {model[:12]}")
    if name != "SIGKILL":
        _judge_end(setting, folder, states, (now, model), (name, status), counts)
    for place in {(folder / path).parent for path in (setting.output, setting.plan or setting.output)}:
        write_text("another result", place / "other.txt", force=True)
        (place / "other.txt").unlink()
    left = files(folder)
    state = "old" if left == states.before else "new" if left == states.after else "neither"
    counts.ends[f"{name} {'killed' if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)} {state}"] += 1
    if setting.loaded(folder) != model:
        counts.fault("mixed", setting, f"{name}: the output changed with the next run")
    if state == "neither":
        more = [path for path in left if path not in (states.after if model == states.new else states.before)]
        counts.fault("leftovers" if more else "mixed", setting, f"{name}: {_apart(states, left)}")


def _judge_end(
    setting: Setting,
    folder: Path,
    states: States,
    found: tuple[dict[str, bytes], str],
    end: tuple[str, int],
    counts: Counts,
) -> None:
    """Judges a process that could clean up: files, exit code and sentence."""
    (now, model), (name, status), text = found, end, said(folder).read_text(errors="replace")
    code = -1 if status == -1 or os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
    early = os.WIFSIGNALED(status) and os.WTERMSIG(status) == getattr(signal, name)
    early |= code == 1 and text.startswith(PYTHON)
    if early and now == states.before:  # before the command line could listen
        return
    if code not in (0, 128 + getattr(signal, name)):
        counts.fault("untrue", setting, f"{name}: exit code {code}: {text[:300]!r}")
    lines = [line for line in text.splitlines() if line.startswith("qdqgraph: ")]
    if code and (len(lines) != 1 or "Traceback" in text):
        counts.fault("untrue", setting, f"{name}: {text[:300]!r}")
    if now not in (states.before, states.after):
        more = [path for path in now if path not in (states.after if model == states.new else states.before)]
        counts.fault("leftovers" if more else "mixed", setting, f"{name}: at once: {_apart(states, now)}")
    elif code and ("nothing was written" in text) != (now == states.before):
        counts.fault("untrue", setting, f"{name}: {text[:300]!r} although the state is {now == states.after and 'new'}")


def _apart(states: States, left: dict[str, bytes]) -> str:
    """How files differ from the state before and from the one after."""
    texts = []
    for title, state in (("before", states.before), ("after", states.after)):
        apart = sorted(path for path in {**left, **state} if left.get(path) != state.get(path))
        texts.append(f"apart from {title}: {', '.join(apart)}")
    return "; ".join(texts)


def main() -> int:
    """Runs the kills; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", default="1")
    args = parser.parse_args()
    os.environ["QDQGRAPH_TRACEBACK"] = "1"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets jobs in the background ignore it
    warm()
    counts, done, number = Counts(), 0, 0
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        while done < args.kills:
            random = Random(f"{args.seed}:{number}")
            number += 1
            setting = Setting.drawn(here / "template", random)
            setting.prepare()
            states = States.of(setting)
            for _ in range(PER_SETTING):
                if done >= args.kills:
                    break
                folder, signalled = here / "run", random.choice(SIGNALS)
                shutil.copytree(setting.folder, folder)
                status = _killed(setting, folder, states, signalled, random)
                _judge(setting, folder, states, signalled, status, counts)
                shutil.rmtree(folder)
                done += status != 0
            shutil.rmtree(setting.folder)
    for end, count in sorted(counts.ends.items()):
        print(f"{count:6} {end}")
    kinds = ("mixed", "destroyed", "leftovers", "untrue")
    print(f"{done} kills in {number} settings: {', '.join(f'{kind} {counts.faults[kind]}' for kind in kinds)}")
    return 1 if counts.faults else 0


if __name__ == "__main__":
    sys.exit(main())
