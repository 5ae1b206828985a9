"""Commands that write files, ended by a signal at a random moment: what is in their folders afterwards.

    python -m benchmarks.kills --kills 1000 --seed 1

Each kill is a command (`fix`, also with --fp16 and --weights int8, `strip`, `apply`, `undo`) on a small model, inline
or with external data, into its own folder, another one, or in place, with and without an earlier result and a plan. A
command is two processes, one that waits and its child, which works. SIGKILL, SIGINT, SIGTERM or SIGHUP goes to the
first one, to the child, or to both, SIGSEGV and SIGABRT to the child, as a crash does: in one half of the runs at any
moment, in the other half after it has begun to write; one run in twenty is a process of its own, whose imports can be
hit. A signal after the end is no kill. Counted are

    mixed      a model that does not load, or is neither the old nor the new one with its own data; a plan of the other
    destroyed  an input, or a file of somebody else, that changed
    leftovers  files that neither the old nor the new state has, after the next command that writes there; at once if
               the first process could still act
    untrue     if it could: more than one line on stderr, another exit code, or "nothing was written" although something
               was
    alive      a process that still runs five seconds after the first one has ended

Prints each fault, at the end the counts; exits with 1 if there is one. Everything follows from the seed, except for the
speed of the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
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

import psutil

from benchmarks.fuzz.judge import warm
from benchmarks.kill_processes import run, said, spawned
from benchmarks.kill_settings import Setting
from qdqgraph.model.writing.texts import write_text
from tests.support.writes import files

SIGNALS = ("SIGKILL",) * 5 + ("SIGINT", "SIGTERM", "SIGHUP")
CRASHES = ("SIGKILL", "SIGSEGV", "SIGABRT")
"""What only the child gets: the first process acts after them."""
TARGETS = ("first", "child", "both")
PER_SETTING = 25
"""Signals in one setting, for which the state after an undisturbed run is made once."""
PYTHON = "Could not import runpy module"
"""What Python itself says when SIGINT comes before it runs the package."""
PATIENCE = 5.0
"""Seconds in which a process ends after the first one."""
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


@dataclass(frozen=True)
class Kill:
    """A signal and who gets it.

    Attributes:
        name: the signal.
        target: one of `TARGETS`.
    """

    name: str
    target: str

    @classmethod
    def drawn(cls, random: Random) -> Kill:
        """One, chosen by a generator."""
        target = random.choice(TARGETS)
        return cls(random.choice((*CRASHES, *SIGNALS[-3:]) if target == "child" else SIGNALS), target)

    @property
    def silent(self) -> bool:
        """Whether the first process can do nothing."""
        return self.name == "SIGKILL" and self.target != "child"

    @property
    def codes(self) -> tuple[int, ...]:
        """The exit codes of the first process: that of an end before the signal, and of one by it."""
        return 0, 3 if self.name in ("SIGSEGV", "SIGABRT") else 128 + getattr(signal, self.name)

    def send(self, process: int) -> bool:
        """Sends it; returns whether the child was there, if it gets it."""
        number: int = getattr(signal, self.name)
        children: list[psutil.Process] = []
        if self.target != "first":
            with contextlib.suppress(psutil.NoSuchProcess):
                children = psutil.Process(process).children()
        for each in (*(child.pid for child in children), *([process] if self.target != "child" else [])):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, number)
        return bool(children) or self.target != "child"

    def __str__(self) -> str:
        return f"{self.name} to {self.target}"


def _killed(setting: Setting, folder: Path, states: States, kill: Kill, random: Random) -> tuple[int, bool]:
    """Runs the command and kills it at a random moment; returns its status, and whether a process went on after it."""
    alive, life = os.pipe()  # every process of the command has its end, and closes it when it ends
    os.set_inheritable(life, True)
    try:
        return _status(setting, folder, states, kill, random), _is_alive(alive, life)
    finally:
        os.close(alive)


def _is_alive(alive: int, life: int) -> bool:
    os.close(life)
    return not select.select([alive], [], [], PATIENCE)[0]


def _status(setting: Setting, folder: Path, states: States, kill: Kill, random: Random) -> int:
    """The status of a command that is killed."""
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
    sent = kill.send(process)
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return status if sent else 0
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return -1


def _judge(setting: Setting, folder: Path, states: States, kill: Kill, status: int, counts: Counts) -> None:
    """Compares what is there with the two states, at once and after another command has written."""
    now, model = files(folder), setting.loaded(folder)
    own = {path for path in {**states.before, **states.after} if states.before.get(path) != states.after.get(path)}
    lost = [path for path, content in states.before.items() if path not in own and now.get(path) != content]
    if lost:
        counts.fault("destroyed", setting, f"{kill}: {', '.join(lost)}")
    if model not in (states.old, states.new):
        counts.fault("mixed", setting, f"{kill}: the output is {model[:12]}")
    if not kill.silent:
        _judge_end(setting, folder, states, (now, model), (kill, status), counts)
    for place in {(folder / path).parent for path in (setting.output, setting.plan or setting.output)}:
        write_text("another result", place / "other.txt", force=True)
        (place / "other.txt").unlink()
    left = files(folder)
    state = "old" if left == states.before else "new" if left == states.after else "neither"
    counts.ends[f"{kill} {'killed' if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)} {state}"] += 1
    if setting.loaded(folder) != model:
        counts.fault("mixed", setting, f"{kill}: the output changed with the next run")
    if state == "neither":
        more = [path for path in left if path not in (states.after if model == states.new else states.before)]
        counts.fault("leftovers" if more else "mixed", setting, f"{kill}: {_apart(states, left)}")


def _judge_end(
    setting: Setting,
    folder: Path,
    states: States,
    found: tuple[dict[str, bytes], str],
    end: tuple[Kill, int],
    counts: Counts,
) -> None:
    """Judges a process that could clean up: files, exit code and sentence."""
    (now, model), (kill, status), text = found, end, said(folder).read_text(errors="replace")
    code = -1 if status == -1 or os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
    early = os.WIFSIGNALED(status) and os.WTERMSIG(status) == getattr(signal, kill.name)
    early |= code == 1 and text.startswith(PYTHON)
    if early and now == states.before:  # before the command line could listen
        return
    if code not in kill.codes:
        counts.fault("untrue", setting, f"{kill}: exit code {code}: {text[:300]!r}")
    lines = [line for line in text.splitlines() if line.startswith("qdqgraph: ")]
    if code and (len(lines) != 1 or "Traceback" in text):
        counts.fault("untrue", setting, f"{kill}: {text[:300]!r}")
    if now not in (states.before, states.after):
        more = [path for path in now if path not in (states.after if model == states.new else states.before)]
        counts.fault("leftovers" if more else "mixed", setting, f"{kill}: at once: {_apart(states, now)}")
    elif code and ("nothing was written" in text) != (now == states.before):
        counts.fault("untrue", setting, f"{kill}: {text[:300]!r} although the state is {now == states.after and 'new'}")


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
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
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
                folder, kill = here / "run", Kill.drawn(random)
                shutil.copytree(setting.folder, folder)
                status, alive = _killed(setting, folder, states, kill, random)
                if alive:
                    counts.fault("alive", setting, str(kill))
                _judge(setting, folder, states, kill, status, counts)
                shutil.rmtree(folder)
                done += status != 0
            shutil.rmtree(setting.folder)
    for end, count in sorted(counts.ends.items()):
        print(f"{count:6} {end}")
    kinds = ("mixed", "destroyed", "leftovers", "untrue", "alive")
    print(f"{done} kills in {number} settings: {', '.join(f'{kind} {counts.faults[kind]}' for kind in kinds)}")
    return 1 if counts.faults else 0


if __name__ == "__main__":
    sys.exit(main())
