"""The catalog: finds rule files, loads them, and rejects invalid ones.

Rules come from three sources: the built-in ones, in the top-level folder `rules/` of a source tree and in
`qdqgraph/rules/` of an installed package; rule packs, which other packages declare in the entry-point group
`qdqgraph.rules`; and files and folders that the user names. A file that does not load, a duplicate code, or a selector
that matches nothing stops the run. Text rules (.toml) execute nothing; Python rules (.py) run as code.
"""

from __future__ import annotations

import fnmatch
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from ..errors import RuleError, guess
from .codes import LOCK, Lock
from .finding import Safety
from .importing import forget, imported
from .naming import CODE, NAME, NO_PACKS, OPERATOR
from .rule import Counterexample, Example, Rule
from .text import TextRule

PACKS = "qdqgraph.rules"
"""Entry-point group of rule packs; the value of an entry is the package whose folder contains the rules."""
NO_RULES = ("test_*", "conftest.py", "setup.py", "pyproject.toml", ".*", "_*")
"""Files in a folder of rules that are not rules; `_NAME.py` is a module that rules of the folder import from."""


def builtin_folder() -> Path:
    """The folder of the built-in rules: inside an installed package, next to the package in a source tree."""
    package = Path(__file__).parent.parent
    inside = package / "rules"
    return inside if inside.is_dir() else package.parent / "rules"


def packs() -> tuple[Path, ...]:
    """The folders of the installed rule packs, by name; none if the environment variable `NO_PACKS` is set.

    Raises:
        RuleError: a pack's package cannot be found.
    """
    found: list[Path] = []
    if os.environ.get(NO_PACKS):
        return ()
    for entry in sorted(entry_points(group=PACKS), key=lambda e: e.name):
        spec = find_spec(entry.value)
        if spec is None or not spec.submodule_search_locations:
            raise RuleError(f"the rule pack {entry.name!r} names {entry.value!r}, which is not a package: reinstall it")
        found += map(Path, spec.submodule_search_locations)
    return tuple(found)


def load(paths: Iterable[Path | str] = (), *, builtin: bool = True, installed: bool = True) -> tuple[Rule, ...]:
    """Rules, sorted by code.

    Args:
        paths: files and folders to add; a file that several of them contain is loaded once.
        builtin: whether to load the built-in rules.
        installed: whether to load the rules of installed packs.

    Raises:
        RuleError: a path does not exist, a file does not load, a rule is incomplete, a code or name is used twice, or a
            code is retired.
    """
    rules: list[Rule] = []
    sources: dict[str, str] = {}
    names: dict[str, Rule] = {}
    seen: set[Path] = set()
    retired = Lock.read(builtin_folder() / LOCK).gone
    roots = ((builtin_folder(),) if builtin else ()) + (packs() if installed else ())
    for root in (*roots, *map(Path, paths)):
        if not root.exists():
            raise RuleError(f"there is no rule file or folder {root}")
        listed = {file.resolve(): file for file in rule_files(root)}
        files = [file for path, file in listed.items() if path not in seen]
        seen.update(listed)
        if listed and not files:
            continue
        for folder in {file.parent for file in files}:
            forget(folder)
        found = [rule for file in files for rule in _rules(file)]
        if not found:
            raise RuleError(f"{root} contains no rule; create one with: qdqgraph rules new NAME --text")
        gone = Lock.read(root / LOCK).gone
        for rule in found:
            if root == builtin_folder():
                rule.seconds = math.inf
            if rule.code in sources or rule.code in retired:
                taken = sources.get(rule.code) or "a built-in rule of earlier versions"
                raise RuleError(f"{rule.file}: code {rule.code} is taken by {taken}; give the rule its own")
            if rule.code in gone:
                raise RuleError(f"{rule.file}: code {rule.code} is retired in {root / LOCK}; give the rule a new one")
            if (same := names.get(rule.name)) is not None:
                raise RuleError(
                    f"{rule.file}: the name {rule.name!r} is taken by {same.code} ({same.file}); give the rule its own"
                )
            names[rule.name] = rule
            sources[rule.code] = str(rule.file)
            rules.append(rule)
    return tuple(sorted(rules, key=lambda r: r.code))


def redirects(paths: Iterable[Path | str] = ()) -> Mapping[str, str]:
    """Former codes and names of rules → their codes now; from every `codes.lock` of the sources."""
    folders = [p for p in (builtin_folder(), *packs(), *map(Path, paths)) if (p / LOCK).is_file()]
    return {old: new for folder in folders for old, new in Lock.read(folder / LOCK).moved.items()}


def find(rules: Sequence[Rule], name: str, moved: Mapping[str, str] | None = None) -> Rule:
    """The rule with this code or name, or that had it before; of a built-in rule the number is enough.

    Raises:
        RuleError: there is none.
    """
    wanted = _current(name, moved)
    for rule in rules:
        if wanted.upper() == rule.code or wanted == rule.name:
            return rule
    raise RuleError(f"there is no rule {name!r}{_near(name, rules) or '.'} See: qdqgraph rules list")


def _current(name: str, moved: Mapping[str, str] | None) -> str:
    """The current code or name: 401 is QDQ401, and `moved` maps former ones."""
    name, known = f"QDQ{name}" if name.isdecimal() else name, moved or {}
    return known.get(name.upper(), known.get(name, name))


def select(
    rules: Sequence[Rule],
    chosen: Sequence[str] = (),
    ignored: Sequence[str] = (),
    moved: Mapping[str, str] | None = None,
) -> tuple[Rule, ...]:
    """The rules whose code or name matches a selector of `chosen` (all if empty) and none of `ignored`.

    A selector is a code or name, a prefix of a code ("QDQ1"), or a glob; `moved` maps former codes and names to
    codes.

    Raises:
        RuleError: a selector matches no rule.
    """

    def matches(rule: Rule, selector: str) -> bool:
        selector = _current(selector, moved)
        return rule.code.startswith(selector.upper()) or fnmatch.fnmatch(rule.name, selector)

    for selector in (*chosen, *ignored):
        if not any(matches(rule, selector) for rule in rules):
            if selector.upper() in Lock.read(builtin_folder() / LOCK).gone:
                raise RuleError(f"{selector.upper()} is retired: no rule has this code any more; remove it")
            near = _near(selector, rules)
            raise RuleError(f"no rule matches {selector!r}{near}{' See' if near else '; see'}: qdqgraph rules list")
    kept = [r for r in rules if not chosen or any(matches(r, s) for s in chosen)]
    return tuple(r for r in kept if not any(matches(r, s) for s in ignored))


def _near(name: str, rules: Sequence[Rule]) -> str:
    """A hint for the message about a code or name that no rule has; of a code, one character may be wrong."""
    if re.match(r"[A-Za-z]+\d", name):
        codes = [rule.code for rule in rules]
        band = [code for code in codes if code[:-2] == name[:-2].upper()]
        return guess(name.upper(), band or codes, cutoff=0.8)
    return guess(name, (rule.name for rule in rules))


def rule_files(root: Path) -> Iterator[Path]:
    """The rule files of a folder, or the file itself."""
    if not root.is_dir():
        yield root
        return
    os.listdir(root)  # noqa: PTH208 - an error if it cannot be read; rglob() finds nothing then
    for file in sorted(root.rglob("*")):
        if file.exists() and not file.is_file():  # a folder, a pipe, a device
            continue
        parts = file.relative_to(root).parts
        if file.suffix in (".py", ".toml") and not any(fnmatch.fnmatch(p, no) for p in parts for no in NO_RULES):
            yield file


def _rules(file: Path) -> list[Rule]:
    if file.suffix == ".toml":
        return [_tested(TextRule(file), file)]
    if file.suffix != ".py":
        raise RuleError(f"{file} is neither a text rule (.toml) nor a Python rule (.py)")
    module = imported(file)
    classes = [v for v in vars(module).values() if isinstance(v, type) and Rule in v.__mro__[1:]]
    return [_checked(cls, file) for cls in classes if cls.__module__ == module.__name__]


def _checked(cls: type[Rule], file: Path) -> Rule:
    for attribute in ("code", "name", "safety", "examples"):
        if not hasattr(cls, attribute):
            raise RuleError(f"{file}: class {cls.__name__} has no {attribute!r}")
    if not re.fullmatch(CODE, cls.code):
        raise RuleError(f"{file}: code {cls.code!r}: write letters, a band from 1 to 4 and two digits, such as MY201")
    if not re.fullmatch(NAME, cls.name):
        raise RuleError(f"{file}: name {cls.name!r}: write lower-case words joined by hyphens")
    if not (cls.__doc__ or "").strip():
        raise RuleError(f"{file}: class {cls.__name__} has no docstring; it is the rule's documentation")
    if isinstance(cls.quantized, str) or not all(re.fullmatch(OPERATOR, str(name)) for name in cls.quantized):
        raise RuleError(f'{file}: quantized is {cls.quantized!r}; write, for example, ("acme.QuantConv",)')
    if not isinstance(cls.safety, Safety):
        raise RuleError(f"{file}: safety is {cls.safety!r}; write one of {', '.join(map(str, Safety))}")
    try:
        rule = cls()
    except (Exception, SystemExit) as error:
        raise RuleError(f"{file}: class {cls.__name__} cannot be used: {type(error).__name__}: {error}") from error
    rule.file = file
    return _tested(rule, file)


def _tested(rule: Rule, file: Path) -> Rule:
    """The rule, if it has examples and counterexamples; a rule of ties by name applies to one network and needs none.

    Raises:
        RuleError: one of the two is missing.
    """
    if {type(e) for e in rule.examples} == {Example, Counterexample}:
        return rule
    if isinstance(rule, TextRule) and not rule.pattern.nodes and not rule.examples:
        return rule
    raise RuleError(f"{file}: rule {rule.code} needs at least one example and one counterexample")
