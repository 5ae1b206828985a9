"""A random command line: commands, options and their kinds come from the parser, so that new ones are drawn too."""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable, Iterator, Mapping
from random import Random

from qdqgraph.cli.parsers import Parser, commands_of

from . import mutate
from .files import Files

LEFT_OUT = ("help", "version", "traceback")
"""Destinations that end the command before it runs, or print what is searched for."""
ELSEWHERE = ("torch",)
"""Commands that need PyTorch."""
WEIGHTS = {"tune": 0.3, "engine build": 0.1, "completion": 0.05, "rules new": 0.3, "check": 0.5, "rules pages": 0.3}
"""How often a command is drawn, if not once: the slow ones, and those that the other inputs run."""
NUMBERS = ("0", "1", "2", "3", "0.5", "99.9", "-1", "nan", "inf", "1e-30", "1e300", "", "x", "٣", "9" * 30)
WORDS = ("", "x", "a", "*", "[", "-", "nan", "x:1", "a=b", "\u202e", "\x1b[31m", "::x::", "x" * 5000, "a\nb")
"""No path leaves the folder: a new option may write a file of this name."""
FILES: Mapping[str, tuple[str, ...]] = {
    "--config": ("settings",),
    "--data": ("data",),
    "--eval": ("score",),
    "--fixed": ("fixed", "model"),
    "--from": ("ranking",),
    "--measured": ("layers", "profile"),
    "--profile": ("profile",),
    "--profile-a": ("profile",),
    "--profile-b": ("profile",),
    "--ranges": ("table", "statistics"),
    "--reference": ("floats", "model"),
    "--rules": ("rule",),
    "--storage": ("storage",),
    "--times": ("log",),
    "FLOAT.onnx": ("floats",),
    "LAYERS.json": ("layers", "layers", "engine"),
    "MODEL": ("model",),
    "diff A": ("model",),
    "diff B": ("model", "fixed"),
    "undo MODEL": ("fixed",),
    "PATH": ("rule",),
    "PLAN": ("plan",),
}
"""What an option or argument reads: kinds of files."""
OUTPUTS = {
    "--folder": ("rules",),
    "--keep": ("kept",),
    "--picture": ("o.svg", "o.dot", "o.txt"),
    "--plan": ("o.json",),
    "--report": ("o.html",),
    "--statistics": ("o.npz",),
    "OUT": ("o.onnx", "sub/o.onnx", "o.onnx", "o.data"),
    "draw OUT": ("o.svg", "o.dot", "o.txt"),
    "engine draw OUT": ("o.svg", "o.dot", "o.txt"),
    "sensitivity OUT": ("o.json", "o.csv"),
    "FILE": ("o.json",),
    "FILE.html": ("o.html",),
    "FOLDER": ("pages",),
}
"""What an option writes."""
WORST = (
    "none/o.onnx",
    "old",
    ".",
    "sub",
    "m.onnx",
    "m.onnx.data",
    "f.onnx",
    "loop",
    "d.npz",
    "p.json",
    "x" * 300,
    "note.md",
)
"""Outputs that are in the way, inputs, or cannot be written."""
VALUES: Mapping[str, tuple[str, ...]] = {
    "--also": ("QDQ1,QDQ2,QDQ3,QDQ4", "QDQ403", "QDQ", "nothing", ""),
    "--as": ("trt-8.6", "trt-10", "trt-11", "trt-rtx", "x"),
    "--budget-db": ("10", "30", "-5", "nan"),
    "--builds": ("1", "0"),
    "--calibrate": ("auto", "max", "percentile", "mse", "entropy", "none", "x"),
    "--code": ("MY1", "MY101", "QDQ101", "x", "MYX999999999", ""),
    "--device": ("orin", "a100", "rtx-4090", "x"),
    "--ignore": ("QDQ2", "QDQ101,QDQ405", "concat-scales-differ", "x", ""),
    "--max-bits-lost": ("0", "1", "9", "-1", "nan"),
    "--memory": ("1", "64MiB", "2GiB", "1e3", "-1", "nan", "x", "9" * 30),
    "--memory-limit": ("4096", "100", "1", "-1"),
    "--max-drop": ("0", "1", "nan"),
    "--min-gain": ("0", "-1", "5", "nan"),
    "--min-speed": ("1", "0.5", "0"),
    "--percentile": ("99.9", "50", "1e-9", "0", "101"),
    "--policy": (
        "max",
        "output",
        "input",
        "anchor:x",
        "fixed:0.1",
        "fixed:nan",
        "fixed:0",
        "fixed:1e-30",
        "x",
        "anchor:",
    ),
    "--preprocess": (
        "imagenet",
        "yolo",
        "unit",
        "raw",
        "size=8",
        "size=0",
        "scale=1/0",
        "mean=x",
        "size=99999x99999",
        "",
    ),
    "--samples": ("1", "2", "3", "0", "9" * 18),
    "--save": (
        "json=s.json",
        "sarif=s.sarif",
        "junit=s.xml",
        "markdown=s.md",
        "github=s.txt",
        "x=y",
        "json=",
        "json=m.onnx",
    ),
    "--seed": ("0", "7", "-1"),
    "--select": ("QDQ1", "QDQ4,QDQ2", "QDQ405", "MYX", "x", ""),
    "--shape": ("x:1x4x8x8", "x:0", "x:-1", "x:2147483648x9", "x", ":", "x:1x3x8x8", "none:1"),
    "--target": ("trt-8.6", "trt-10", "trt-11", "trt-rtx", "x"),
    "--time-limit": ("60", "60", "0.01", "nan", "0"),
    "--top": ("1", "2", "3", "0"),
    "--trials": ("0", "1", "3"),
    "--workers": ("1", "1", "0", "2"),
    "CODE": ("QDQ101", "QDQ206", "QDQ405", "QDQ301", "MYX101", "concat-scales-differ", "x", "QDQ999", ""),
    "NAME": ("my-rule", "x", "", "../x", "a/b", "A b", "\n", "con" * 200),
}
"""Values of options and arguments whose text has a form, or that would take long."""


def commands(top: Parser) -> dict[str, Parser]:
    """Every command that needs no PyTorch, by its words."""

    def below(parser: Parser, words: tuple[str, ...]) -> Iterator[tuple[str, Parser]]:
        inner = list(commands_of(parser))
        if not inner:
            yield " ".join(words), parser
        for each in inner:
            name = each.prog.split()[-1]
            if (*words, name)[0] not in ELSEWHERE:
                yield from below(each, (*words, name))

    return dict(below(top.whole(), ()))


def drawn(top: Parser, files: Files, random: Random) -> list[str]:
    """A command with some of its options, in any order."""
    found = commands(top)
    names = sorted(found)
    name = random.choices(names, [WEIGHTS.get(each, 1.0) for each in names])[0]
    parser = found[name]
    optional = [a for a in parser._actions if a.option_strings and a.dest not in LEFT_OUT]
    share = random.choice((0.0, 1.5, 3.0, 6.0)) / max(len(optional), 1)
    apart: dict[str, int] = {
        action.dest: number
        for number, group in enumerate(parser._mutually_exclusive_groups)
        for action in group._group_actions
    }
    taken: set[int] = set()
    words: list[list[str]] = []
    for action in optional:
        likely = 0.97 if action.required or action.dest in ("output", "data", "nodes") else share
        group = apart.get(action.dest)
        if random.random() >= likely or (group in taken and random.random() < 0.95):
            continue
        if group is not None:
            taken.add(group)
        words.append(_written(name, action, files, random))
    random.shuffle(words)
    positional = [action for action in parser._actions if not action.option_strings]
    given = [value for action in positional for value in _values(name, action, files, random)]
    if given and random.random() < 0.01:
        given.pop()
    return [*name.split(), *given, *(word for option in words for word in option)]


def _written(name: str, action: Action, files: Files, random: Random) -> list[str]:
    """An option with its value, as one word where the value may begin with a dash."""
    option = random.choice(action.option_strings)
    values = _values(name, action, files, random)
    if len(values) == 1 and option.startswith("--"):
        return [f"{option}={values[0]}"]
    return [option, *values]


def _values(name: str, action: Action, files: Files, random: Random) -> list[str]:
    """The values of an option or argument."""
    if action.nargs == 0:
        return []
    count = {"?": random.choice((0, 1)), "*": random.choice((0, 1, 2)), "+": random.choice((1, 1, 2))}
    number = action.nargs if isinstance(action.nargs, int) else count.get(str(action.nargs), 1)
    return [_value(name, action, files, random).replace("\0", "") for _ in range(number)]


def _value(name: str, action: Action, files: Files, random: Random) -> str:
    keys = [f"{name} {action.metavar}", *action.option_strings[::-1], str(action.metavar), action.dest]
    if action.choices is not None:
        return random.choice([*map(str, action.choices)] * 8 + ["x"])
    for table, draw in _TABLES:
        for key in keys:
            if key in table:
                return draw(table[key], files, random)
    if str(action.metavar) in ("GLOB", "TENSOR"):
        return _glob(files, random)
    if str(action.metavar) in ("A", "B", "ENGINE"):
        return files.of(random.choice(("model", "engine", "engine", "layers", "fixed")))
    if action.type not in (None, str) and "path" not in getattr(action.type, "__name__", "").lower():
        return random.choice(NUMBERS)
    return random.choice(WORDS)


def _file(kinds: tuple[str, ...], files: Files, random: Random) -> str:
    return files.of(random.choice(kinds))


def _output(names: tuple[str, ...], files: Files, random: Random) -> str:
    return random.choice(WORST) if random.random() < 0.1 else random.choice((*names, *names[:1] * 3))


def _word(values: tuple[str, ...], files: Files, random: Random) -> str:
    return random.choice(WORDS) if random.random() < 0.05 else random.choice(values)


def _glob(files: Files, random: Random) -> str:
    names = [name for node in files.base.graph.node for name in (*node.output, node.name) if name] or ["x"]
    one = random.choice(names)
    return random.choice(("*", "*", "*", one, one, f"{one[:1]}*", "none", "[", *mutate.TEXTS[:2]))


_TABLES: tuple[tuple[Mapping[str, tuple[str, ...]], Callable[[tuple[str, ...], Files, Random], str]], ...] = (
    (FILES, _file),
    (VALUES, _word),
    (OUTPUTS, _output),
)
