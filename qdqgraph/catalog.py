"""The catalog: finds rule files, loads them, and refuses what is not right.

The built-in rules lie in the top-level folder `rules/` of a source tree and in `qdqgraph/rules/` of an installed
package. A file that does not load, a code given twice, or a selector that matches nothing stops the run.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from .errors import RuleError
from .rule import Counterexample, Example, Rule

CODE = re.compile(r"QDQ[1-4]\d\d")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def builtin_folder() -> Path:
    """Where the built-in rules lie: inside an installed package, beside it in a source tree."""
    package = Path(__file__).parent
    inside = package / "rules"
    return inside if inside.is_dir() else package.parent / "rules"


def load(paths: Iterable[Path] = (), *, builtin: bool = True) -> tuple[Rule, ...]:
    """The built-in rules and those of added files and folders, sorted by code.

    Raises:
        RuleError: a path does not exist, a file does not load, a rule is incomplete, or a code is given twice.
    """
    rules: list[Rule] = []
    sources: dict[str, str] = {}
    for root in (*((builtin_folder(),) if builtin else ()), *paths):
        if not root.exists():
            raise RuleError(f"there is no rule file or folder {root}")
        files = sorted(root.rglob("*.py")) if root.is_dir() else [root]
        found = [(file, rule) for file in files for rule in _rules(file)]
        if not found:
            raise RuleError(f"{root} holds no rule: write a class that derives from qdqgraph.Rule")
        for file, rule in found:
            if rule.code in sources:
                raise RuleError(f"{file}: code {rule.code} is taken by {sources[rule.code]}; give the rule its own")
            sources[rule.code] = str(file)
            rules.append(rule)
    return tuple(sorted(rules, key=lambda r: r.code))


def select(rules: Sequence[Rule], chosen: Sequence[str] = (), ignored: Sequence[str] = ()) -> tuple[Rule, ...]:
    """The rules whose code or name matches a selector of `chosen` (all where empty) and none of `ignored`.

    A selector is a code or name, a prefix of a code ("QDQ1"), or a glob.

    Raises:
        RuleError: a selector matches no rule.
    """

    def matches(rule: Rule, selector: str) -> bool:
        return rule.code.startswith(selector.upper()) or fnmatch.fnmatch(rule.name, selector)

    for selector in (*chosen, *ignored):
        if not any(matches(rule, selector) for rule in rules):
            raise RuleError(f"no rule matches {selector!r}; see: qdqgraph rules list")
    kept = [r for r in rules if not chosen or any(matches(r, s) for s in chosen)]
    return tuple(r for r in kept if not any(matches(r, s) for s in ignored))


def _rules(file: Path) -> list[Rule]:
    spec = importlib.util.spec_from_file_location(f"qdqgraph_rule_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise RuleError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise RuleError(f"{file}: the rule file does not load: {type(error).__name__}: {error}") from error
    classes = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Rule) and v is not Rule]
    return [_checked(cls, file) for cls in classes if cls.__module__ == module.__name__]


def _checked(cls: type[Rule], file: Path) -> Rule:
    for attribute in ("code", "name", "safety", "examples"):
        if not hasattr(cls, attribute):
            raise RuleError(f"{file}: class {cls.__name__} has no {attribute!r}")
    if not CODE.fullmatch(cls.code):
        raise RuleError(f"{file}: code {cls.code!r}: write QDQ and three digits, from QDQ100 to QDQ499")
    if not NAME.fullmatch(cls.name):
        raise RuleError(f"{file}: name {cls.name!r}: write lower-case words joined by hyphens")
    if not (cls.__doc__ or "").strip():
        raise RuleError(f"{file}: class {cls.__name__} has no docstring; it is the rule's documentation")
    kinds = {type(e) for e in cls.examples}
    if kinds != {Example, Counterexample}:
        raise RuleError(f"{file}: rule {cls.code} needs at least one Example and one Counterexample")
    try:
        return cls()
    except TypeError as error:
        raise RuleError(f"{file}: class {cls.__name__} cannot be used: {error}") from error
