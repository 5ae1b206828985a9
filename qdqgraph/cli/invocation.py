"""`Invocation`: the rules and options of the command line and the settings file, per model."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import RuleError
from ..repair.options import Options
from ..rulekit import catalog
from ..rulekit.profile import Profile
from ..rulekit.rule import Rule
from .console import warn
from .settings import Settings

PYTHON_RULE = "_rule.py"
"""How the name of a Python rule ends in a folder that a settings file lists."""


@dataclass(frozen=True)
class Invocation:
    """The rules, settings and arguments of one command.

    Attributes:
        loaded: all rules.
        moved: former codes and names of rules, with their current codes.
        settings: the settings file.
        args: the command line, which overrides the settings file.
    """

    loaded: tuple[Rule, ...]
    moved: Mapping[str, str]
    settings: Settings
    args: Namespace

    @classmethod
    def of(cls, args: Namespace) -> Invocation:
        """Loads settings and rules.

        Raises:
            RuleError: a rule or the settings file is not valid.
        """
        settings = Settings() if args.no_config else Settings.near(Path.cwd())
        if args.config is not None:
            settings = Settings.read(args.config)
        own = args.config is not None and not args.config.resolve().is_relative_to(checkout(Path.cwd()))
        configured = configured_rules(settings.rules, allowed=own or args.allow_python_rules)
        paths = {path.resolve(): path for path in (*settings.rules, *args.rules)}.values()
        loaded = catalog.load({path.resolve(): path for path in (*configured, *args.rules)}.values())
        if getattr(args, "profile_rules", False):
            args.rule_profile = Profile()
            loaded = args.rule_profile.timed(loaded)
        return cls(loaded, catalog.redirects(paths), settings, args)

    def rules(self, model: Path) -> tuple[Rule, ...]:
        """Returns the rules to run on a model.

        Raises:
            RuleError: a selector matches no rule.
        """
        own = self.settings.of(model)
        selected, excluded = split_codes(self.args.select), split_codes(self.args.ignore)
        mine = () if selected else own.get("ignore", ())  # what the command line selects, a settings file cannot ignore
        chosen, ignored = selected or own.get("select", ()), [*mine, *excluded]
        for key, entries in (("select", () if selected else chosen), ("ignore", mine)):
            self._configured(model, key, entries)
        for name in (*chosen, *ignored):
            if now := self.moved.get(name.upper(), self.moved.get(name)):
                warn(f"{name} is now {now}")
        return catalog.select(self.loaded, chosen, ignored, self.moved)

    def options(self, model: Path) -> Options:
        """Returns the options of a repair of a model.

        Raises:
            ModelError, RuleError: an option has an invalid value.
        """
        own = dict(self.settings.of(model))
        given = {field: getattr(self.args, field, None) for field in Options.table()}
        if given["also"] or own.get("also"):
            self._configured(model, "also", own.get("also", ()))
            asked = self.named([*split_codes(given["also"] or ()), *own.pop("also", ())])
            given["also"] = tuple(rule.code for rule in asked)
        return Options.merged(given, own)

    def _configured(self, model: Path, key: str, entries: Sequence[str]) -> None:
        """Checks that each selector of the settings for a model matches a rule.

        Raises:
            RuleError: one matches none; with the file and line of the settings.
        """
        for entry in entries:
            try:
                self.named([entry])
            except RuleError as error:
                self.settings.refuse(model, key, entry, error)

    def named(self, selectors: Sequence[str]) -> tuple[Rule, ...]:
        """Returns the rules of these codes, prefixes or names.

        Raises:
            RuleError: a selector matches no rule.
        """
        return catalog.select(self.loaded, selectors, (), self.moved)


def checkout(folder: Path) -> Path:
    """Returns the root of the git checkout that contains a folder; the folder itself if there is none."""
    folder = folder.resolve()
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), folder)


def configured_rules(paths: Sequence[Path], *, allowed: bool) -> list[Path]:
    """Returns the rule files of a settings file: text rules, and if allowed, Python rules that it lists one by one, or
    named `*_rule.py` in a listed folder. Prints what is left out.

    Raises:
        RuleError: a Python rule is listed that is not allowed.
    """
    found: list[Path] = []
    for path in paths:
        if path.suffix == ".py" and not allowed:
            raise RuleError(
                f"{path} is a Python rule, which runs code: to load it from a settings file, add --allow-python-rules"
            )
        if not path.is_dir():
            found.append(path)
            continue
        for file in catalog.rule_files(path):
            if file.suffix != ".py" or (allowed and file.name.endswith(PYTHON_RULE)):
                found.append(file)
            elif file.name.endswith(PYTHON_RULE):
                warn(f"{file} is not loaded: a Python rule runs code; add --allow-python-rules")
            else:
                warn(f"{file} is not loaded: name it *{PYTHON_RULE}, or list the file itself in `rules`")
    return found


def split_codes(entries: Sequence[str]) -> list[str]:
    """Splits codes, prefixes or names of the command line, which may be repeated or separated by commas."""
    return [code for entry in entries for code in entry.split(",") if code]
