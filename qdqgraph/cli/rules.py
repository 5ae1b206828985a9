"""The commands for rules: each accepts parsed arguments, prints to stdout, and returns the exit code."""

from __future__ import annotations

from argparse import Namespace
from itertools import chain
from pathlib import Path

from .. import api
from ..authoring import scaffold, testing
from ..errors import ModelError, counted, reason
from ..model.writing.outputs import refuse_to_overwrite
from ..model.writing.texts import write_text
from ..report import pages, records, rule_records, text
from ..report.lines import say, say_json, say_lines
from ..rulekit import catalog
from ..rulekit.rule import Rule
from .console import terminal
from .invocation import Invocation


def explain(args: Namespace) -> int:
    """`qdqgraph explain CODE`: prints the page of a rule."""
    run = Invocation.of(args)
    rule = catalog.find(run.loaded, args.code, run.moved)
    if args.json:
        say_json(terminal(), records.encoded("rule", rule_records.RulePageRecord.of(rule)))
    else:
        text.show_rule(terminal(), rule)
    return 0


def why(args: Namespace) -> int:
    """`qdqgraph why CODE MODEL --at TENSOR`: returns 0 if the rule applies at the tensor, 1 if not."""
    run = Invocation.of(args)
    code = catalog.find(run.loaded, args.code, run.moved).code
    answer = api.why(code, args.model, args.at, run.loaded, run.options(args.model), trace=args.trace)
    if args.json:
        record = rule_records.WhyRecord.of(code, str(args.model), args.at, answer)
        say_json(terminal(), records.encoded("why", record))
    else:
        for line in answer.lines:
            say(terminal(), line)
    return 0 if answer.applies else 1


def rules(args: Namespace) -> int:
    """`qdqgraph rules WHAT`: runs list, new, test or pages."""
    return int({"list": _list, "new": _new, "test": _test, "pages": _pages}[args.what](args))


def _list(args: Namespace) -> int:
    loaded = Invocation.of(args).loaded
    if args.json:
        say_json(terminal(), records.encoded("rules", rule_records.RulesRecord.of(loaded)))
    else:
        text.show_rules(terminal(), loaded)
    return 0


def _new(args: Namespace) -> int:
    file, content = scaffold.scaffold(args.name, args.kind, args.folder, args.code, catalog.load())
    _make_folder(args.folder)
    write_text(content, file, force=args.force)
    say(terminal(), f"{file}: edit it, then run: qdqgraph rules test {file}")
    return 0


def _test(args: Namespace) -> int:
    """Returns 0 if all rules pass their tests, 1 if not."""
    chosen = _named(args.paths)
    judged = ((rule.code, verdict) for rule in chosen for verdict in testing.verdicts(rule))
    locks = (("", verdict) for verdict in testing.lock_verdicts(args.paths, chosen))
    console, checks = terminal(), list[rule_records.VerdictRecord]()
    for code, verdict in chain(judged, locks):
        checks.append(rule_records.VerdictRecord(code, verdict.title, verdict.place, verdict.fault))
        if verdict.fault and not args.json:
            say_lines(console, f"{verdict.place}: {f'{code} ' if code else ''}{verdict.title}: {verdict.fault}")
    passed = sum(not check.fault for check in checks)
    if args.json:
        record = rule_records.TestedRecord(passed == len(checks), tuple(checks))
        say_json(console, records.encoded("rules-test", record))
    else:
        say(console, f"{passed} of {len(checks)} checks passed")
    return int(passed < len(checks))


def _pages(args: Namespace) -> int:
    chosen = _named(args.paths)
    written = {args.output / name: content for name, content in pages.pages(chosen).items()}
    _make_folder(args.output)
    for file in written:
        refuse_to_overwrite(file, force=args.force)
    for file, content in written.items():
        write_text(content, file, force=args.force)
    say(terminal(), f"{args.output}: {counted(len(chosen), 'rule')}")
    return 0


def _make_folder(folder: Path) -> None:
    """Creates a folder, if it does not exist.

    Raises:
        ModelError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{folder}: the folder cannot be created: {reason(error)}") from error


def _named(paths: list[Path]) -> tuple[Rule, ...]:
    """Returns the rules of these paths, or the built-in rules if there are none."""
    if not paths:
        return catalog.load(installed=False)
    return catalog.load(paths, builtin=False, installed=False)
