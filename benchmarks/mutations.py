"""Which of the tests catch a fault: the examples, the properties on CI's 150 random graphs, those on the nightly 1,000.

    python benchmarks/mutations.py [WORD ...]

Breaks a copy of the tree in one place at a time (`FAULTS`; those with a WORD in their name, or all) and runs the tests
of that part until one fails: first those without random graphs, then the properties on CI's 150, then, where these find
nothing, on the nightly 1,000. Prints a table in Markdown. Exits with 1 where a fault passes CI, or an unbroken copy
does not pass. Takes half an hour, most of it for random graphs that find nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build", "dist")
NO_SHRINKING = """
from hypothesis import Phase

for profile in ("nightly", "ci"):
    settings.register_profile(profile, settings.get_profile(profile), phases=[Phase.explicit, Phase.generate])
settings.load_profile("ci")
"""
"""Appended to the copy's conftest.py: a failure is enough here, the smallest failing graph is not needed."""
LIMIT = 3600
"""Seconds until a run is ended; a fault that makes the tests hang counts as caught."""
PASSED, NOTHING_TO_RUN, CAUGHT = 0, 5, (1, 2)
"""Exit codes of pytest; 2 if a test file cannot be imported."""


@dataclass(frozen=True)
class Fault:
    """One fault to insert.

    Attributes:
        name: the resulting defect.
        file: path in the package; old, new: text that the file contains once, and its replacement.
        tests: folders and files under tests/ that test this part.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "the guard allows one bit more than the limit",
        "repair/solver.py",
        "if lost > limit:",
        "if lost > limit + 1:",
        ("repair", "rules/test_ties.py"),
    ),
    Fault(
        "a second run measures bits lost from the scale of the first",
        "repair/solver.py",
        "return min(self.originals.get(pair.site, math.inf), pair.value)",
        "return pair.value",
        ("repair", "rules/test_ties.py"),
    ),
    Fault(
        "a tie joins two of its groups and leaves out the rest",
        "repair/solver.py",
        "for top in tops[1:]:",
        "for top in tops[1:2]:",
        ("repair", "rules/test_ties.py"),
    ),
    Fault(
        "of two ties that exclude each other the one that saves less is taken",
        "repair/solver.py",
        "key=lambda f: (-f.bytes, f.order))",
        "key=lambda f: (f.bytes, f.order))",
        ("repair", "rules/test_ties.py"),
    ),
    Fault(
        "repairs that must be exact join two different scales",
        "repair/solver.py",
        "if exact and len(group.values) > 1:",
        "if exact and len(group.values) > 2:",
        ("repair", "rules/test_ties.py"),
    ),
    Fault(
        "two findings of one round change the same input",
        "repair/carry_out.py",
        "if any(reader in self.taken for reader in wanted) or any(reader in self.relied for reader in changes):",
        "if not wanted:",
        ("repair", "rules/test_placement.py"),
    ),
    Fault(
        "undo leaves the inputs of nodes as the repair made them",
        "repair/edits.py",
        "return SetInput(self.node, self.index, self.new, self.old)",
        "return self",
        ("repair",),
    ),
    Fault(
        "a Pad moves INT8 whatever it fills in",
        "graph/moves.py",
        "return value is not None and not np.any(value)",
        "return True",
        ("repair", "graph", "rules/test_ties.py", "rules/test_rules.py"),
    ),
    Fault(
        "of two convolutions at an Add the one with the shorter path stays bare",
        "graph/blocks.py",
        "conv = max(fusible,",
        "conv = min(fusible,",
        ("repair", "graph", "rules/test_placement.py"),
    ),
    Fault(
        "a convolution whose result is an output of the network fuses with an Add",
        "graph/blocks.py",
        " and site not in graph.outputs",
        "",
        ("repair", "graph", "rules/test_placement.py"),
    ),
    Fault(
        "an asymmetric activation gets the scale of 128 steps",
        "proposals/weights.py",
        "scale_from_amax(quantization.amax().max())",
        "scale_from_amax(quantization.amax().max(), INT8_BOUND + 1)",
        ("proposals", "rules/test_legality.py", "rules/test_legality_edges.py"),
    ),
    Fault(
        "weights 128 steps from their zero-point keep their scale",
        "proposals/weights.py",
        "steps < INT8_BOUND + 0.5",
        "steps < INT8_BOUND + 1.5",
        ("proposals", "rules/test_legality.py", "rules/test_legality_integers.py"),
    ),
    Fault(
        "where the readers of a move want different scales, the forecast takes one of them",
        "engines/forecast/propagation.py",
        "return after.pop() if len(after) == 1 else None",
        "return after.pop()",
        ("engines/test_forecast.py",),
    ),
    Fault(
        "a file of layer info may be larger than its limit",
        "engines/read/jsonfile.py",
        'if sum(text.count(sign) for sign in ",[{") > MAX_VALUES:',
        'if text.count(",") > MAX_BYTES:',
        ("engines/test_read_files.py",),
    ),
    Fault(
        "constants up to twice FP16's largest number become FP16",
        "fp16/numbers.py",
        "if abs(top) > LARGEST:",
        "if abs(top) > 2 * LARGEST:",
        ("fp16",),
    ),
    Fault(
        "a variable of a text rule matches two different constants",
        "rulekit/text/match.py",
        "if len(before) == len(given) and all(map(same_value, [self.graph] * len(given), before, given)):",
        "if len(before) == len(given):",
        ("rulekit", "rules/test_rules.py"),
    ),
    Fault(
        "of several amax with the same divergence the entropy search takes the smallest",
        "calibration/methods/entropy.py",
        "best = len(divergences) - 1 - np.argmin(divergences[::-1])",
        "best = np.argmin(divergences)",
        ("calibration", "torch/test_calibration.py"),
    ),
)


def caught(tree: Path, tests: tuple[str, ...], *more: str) -> bool | None:
    """Whether a test fails; None if there is no test."""
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *more]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        run = subprocess.run(
            [*command, *(f"tests/{name}" for name in tests)],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        return True
    if run.returncode not in (PASSED, NOTHING_TO_RUN, *CAUGHT):
        raise RuntimeError(run.stdout + run.stderr)
    return None if run.returncode == NOTHING_TO_RUN else run.returncode in CAUGHT


def judged(tree: Path, fault: Fault) -> tuple[bool | None, bool | None, bool | None]:
    """Whether the examples, the properties of CI and the nightly properties catch a fault in this copy."""
    file = tree / "qdqgraph" / fault.file
    whole = file.read_text(encoding="utf-8")
    if whole.count(fault.old) != 1:
        raise SystemExit(f"{fault.file} does not hold {fault.old!r} once: bring FAULTS up to date")
    file.write_text(whole.replace(fault.old, fault.new), encoding="utf-8")
    try:
        examples = caught(tree, fault.tests, "-m", "not hypothesis")
        nightly = properties = caught(tree, fault.tests, "-m", "hypothesis")
        if properties is False:
            nightly = caught(tree, fault.tests, "-m", "hypothesis", "--hypothesis-profile=nightly")
        return examples, properties, nightly
    finally:
        file.write_text(whole, encoding="utf-8")


def main(words: list[str]) -> int:
    """Prints the table; returns 1 if CI misses a fault, else 0."""
    faults = [f for f in FAULTS if not words or any(word in f.name for word in words)]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        with (tree / "tests" / "conftest.py").open("a", encoding="utf-8") as conftest:
            conftest.write(NO_SHRINKING)
        if caught(tree, tuple(sorted({name for f in faults for name in f.tests}))):
            print("the tests fail without a fault", file=sys.stderr)
            return 1
        print("| fault | part | examples | 150 graphs | 1,000 graphs |\n| --- | --- | --- | --- | --- |")
        for fault in faults:
            found = judged(tree, fault)
            shown = ("no property" if f is None else "caught" if f else "not caught" for f in found)
            print(f"| {fault.name} | {fault.file} | {' | '.join(shown)} |", flush=True)
            missed += not any(found[:2])
    print(f"\n{len(faults) - missed} of {len(faults)} faults are caught by `make test`.")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
