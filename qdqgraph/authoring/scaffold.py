"""`rules new`: creates a complete rule that passes its tests, as a starting point."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from string import Template

from ..errors import RuleError
from ..rulekit.naming import CODE, NAME
from ..rulekit.rule import Rule

TEMPLATES = Path(__file__).parent / "templates"
FILES = {"text": ("rule.toml", ".toml"), "python": ("rule.py.txt", "_rule.py")}


def free_code(taken: Iterable[str]) -> str:
    """Returns the first of MY201, MY202 … that no rule uses."""
    used = set(taken)
    return next(code for code in (f"MY{number}" for number in range(201, 500)) if code not in used)


def _codes(folder: Path) -> dict[str, str]:
    """Returns the codes in the rule files of a folder, with the file names; the files are read, not executed."""
    files = [f for suffix in (".py", ".toml") for f in sorted(folder.glob(f"*{suffix}"))]
    return {code: f.name for f in files for code in re.findall(CODE, f.read_text(encoding="utf-8", errors="replace"))}


def scaffold(name: str, kind: str, folder: Path, code: str, rules: Iterable[Rule]) -> tuple[Path, str]:
    """Returns the path of a new rule file and its text.

    Args:
        name: the name of the problem, in kebab-case.
        kind: "text" or "python".
        folder: the folder of the new file.
        code: the code of the rule, "" for the next free one.
        rules: the existing rules.

    Raises:
        RuleError: the name or the code is not valid, or is taken.
    """
    taken = {rule.code: rule.name for rule in rules} | _codes(folder)
    if not re.fullmatch(NAME, name):
        raise RuleError(
            f"{name!r} is not a valid rule name: use lower-case words joined by hyphens, such as repeated-pair"
        )
    code = code or free_code(taken)
    if not re.fullmatch(CODE, code):
        raise RuleError(
            f"{code!r} is not a valid rule code: use letters, a digit from 1 to 4 and two more digits, such as MY201"
        )
    if code in taken:
        raise RuleError(f"code {code} is taken by {taken[code]}; omit --code to use the next free code")
    if same := next((c for c, known in taken.items() if known == name), ""):
        raise RuleError(f"the name {name!r} is taken by {same}; choose another")
    template, suffix = FILES[kind]
    file = folder / f"{name.replace('-', '_').removesuffix('_rule' if kind == 'python' else '')}{suffix}"
    text = Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(
        code=code, name=name, file=file, class_name="".join(word.capitalize() for word in name.split("-"))
    )
    return file, text
