"""The function that checks a model: check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ..engines.forecast.judge import Judge
from ..repair import rounds
from ..repair.options import Options
from ..repair.rehearsal import rehearsed
from ..report.checked import Checked
from ..report.examined import examined
from ..rulekit.rule import Rule
from ..versions import Unpack
from . import given
from .call import public
from .given import File, Model
from .lightly import checked
from .settings import CheckOptions


@public(CheckOptions)
def check(
    model: Model,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    folder: File | None = None,
    other_targets: bool = False,
    rehearse: bool = False,
    **settings: Unpack[CheckOptions],
) -> Checked:
    """Returns what prevents TensorRT from building or fusing a model, with the predicted cost of each finding in bytes.

    The result is a sequence of findings; it also says what of the model runs in INT8.

    Args:
        model: a model, or its path.
        rules: the rules to check by; the built-in and installed rules by default.
        select, ignore: run only these of the rules, or not these: codes, prefixes of codes, names or globs.
        options: the settings of a repair. They can also be given by name, such as `target="trt-11"`.
        folder: the folder that contains the external data; the folder of the file by default.
        other_targets: also report findings that occur on other targets only; such a finding has a `target`.
        rehearse: also say what a repair with the same options would do: it is carried out in memory, without data and
            without a numeric check.
        settings: fields of `Options` by name.

    Raises:
        ModelError: the model is not quantized, or cannot be read or imported.
        RuleError: `rules` contains an object that is not a rule, a selector matches no rule, a rule crashed, or the
            policy is unknown.
        ArgumentError: there is no option of this name.
    """
    chosen, asked = given.rule_list(rules, select, ignore), given.option_values(options, settings, rules)
    return checked(partial(_check, model, folder, chosen, asked, other_targets, rehearse), model)


def _check(
    model: Model, folder: File | None, rules: Sequence[Rule], options: Options, other_targets: bool, rehearse: bool
) -> Checked:
    found, place, source = given.read(model, folder)
    known = examined(found, place, source.name, rules, options)
    here = known.findings
    away = rounds.elsewhere(known.graph, rules, here) if other_targets else ()
    found_now = Checked(str(source), (*here, *away), known)
    if not rehearse:
        return found_now
    judge = Judge(options.sizes)
    judge.shares = (found_now.int8,)
    judge.knows(known.graph, known.engine)
    done = rehearsed(known.graph, here, known.scanned, rules, options, judge)
    after = judge.shares[-1] if here and not done.failed else None
    return replace(found_now, rehearsal=done, after=after)
