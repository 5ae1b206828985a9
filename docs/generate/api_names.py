"""Where options of the command line and arguments of the API differ, and why; tests/api/test_names.py compares them."""

from __future__ import annotations

from collections.abc import Mapping

RENAMED: Mapping[str, tuple[str, str]] = {
    "except": ("skip", "`except` is a keyword of Python; the name in `pyproject.toml` is `except`"),
    "from": ("ranking", "`from` is a keyword of Python; also takes what `sensitivity` returned"),
    "with": ("library", "`with` is a keyword of Python"),
    "as": ("target", "`error --as TARGET` is the function `engine_error`"),
    "eval": ("evaluate", "`eval` is a function of Python; takes the function instead of its name"),
    "no-provenance": ("provenance", "on by default"),
    "no-numerics": ("numerics", "off by default: it needs ONNX Runtime"),
    "no-rehearsal": ("rehearse", "off by default: a repair of a copy takes longer than the check"),
    "shape": (
        "shapes",
        '`build`: one mapping of all dynamic inputs; other calls: a list of the texts, such as `["x:1x3x224x224"]`',
    ),
}
"""For each option the argument that does the same, and the reason for its name."""

LEFT_OUT: Mapping[str, str] = {
    "json": "`to_json()` of the result",
    "format": "`summary()` and `to_json()` of the result",
    "quiet": "`repr()` of the result",
    "verbose": "the fields of the result",
    "full": "the findings are the elements of the result",
    "check --statistics": "`summary()` of the result; `statistics` of `fix` is a file",
    "fail-on": "the severities of the findings",
    "exit-non-zero-if-left": "`bool(result.left)`",
    "report": "the command `qdqgraph report`, and `--report`",
    "save": "write what `to_json()` returns, or `qdqgraph check --save`",
    "check --force": "belongs to `--report` and `--save`",
    "error --force": "belongs to `--report`",
    "engine diff --force": "belongs to `--report`",
    "diff": "`result.plan.diff()`",
    "dry-run": "leave `output` out",
    "picture": "`qdqgraph tune --picture`",
    "status": "`tune_status`",
    "workers": "call `tune` in several processes with one `storage`",
    "config": "a program has no settings file: pass options and rules",
    "no-config": "as `--config`",
    "allow-python-rules": "as `--config`; `rules` loads Python rules",
    "profile-rules": "`python -m cProfile`",
    "no-packs": "`rules=qdqgraph.rules(installed=False)`, or the environment variable `QDQGRAPH_NO_PACKS=1`",
    "traceback": "an exception has it",
    "help": "`help(qdqgraph.fix)`",
}
"""Options without an argument of the same purpose, and what to write instead."""
