"""`Trials`: measured candidates in Optuna's storage, shared by all processes that search together.

A trial is one candidate. Processes enqueue the same candidates in the same order, and each takes the next one that no
process has begun. What another process began and has not finished is measured again rather than waited for: the result
is the same, and a process that died costs nothing. So a search continues after a crash, and its result does not depend
on the number of processes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..errors import ModelError
from ..extras import install_hint
from .decisions import AS_IS, FLOAT, Candidate, Decision
from .found import Found, How

if TYPE_CHECKING:
    import optuna

KEY, FOUND, RUN = "candidate", "found", "run"
START: Final = "start"
"""The parameter that names the start."""


class Trials:
    """The memory of a search.

    Args:
        storage: an URL of Optuna, such as "sqlite:///file.db"; "" for the memory of this process.
        name: the study.
        run: what the results depend on; a study of another run is refused.
        choices: the values of each parameter.

    Raises:
        ModelError: optuna is missing, the storage cannot be opened, or the study is of another run.
    """

    def __init__(self, storage: str, name: str, run: str, choices: Mapping[str, Sequence[str]]) -> None:
        self.study, self.choices = opened(storage, name, create=True), choices
        known = self.study.user_attrs.get(RUN)
        if known is None:
            self.study.set_user_attr(RUN, run)
        elif known != run:
            raise ModelError(
                f"{storage} has a search of another model, other data or other options: name another storage, or "
                "delete this one"
            )

    def measured(
        self,
        candidates: Iterable[Candidate],
        measure: Callable[[Candidate, How], Found],
        *,
        how: How,
        progress: Callable[[str], None] = lambda message: None,
    ) -> list[Found]:
        """The results of candidates, in order; what no process has measured yet is measured.

        Args:
            candidates: the candidates.
            measure: measures a candidate.
            how: what of it.
            progress: called with one line before each measurement.
        """
        asked = list(candidates)
        keys = [_text(candidate, how) for candidate in asked]
        known = self._known()
        missing = dict.fromkeys(key for key in keys if key not in known)
        by_key = dict(zip(keys, asked, strict=True))
        self._enqueue({key: by_key[key] for key in missing})
        count, begun = len(missing), 0
        while (trial := self._next(missing)) is not None:
            key = str(trial.user_attrs[KEY])
            begun += 1
            progress(f"candidate {begun} of {count}")
            found = measure(by_key[key], how)
            if not self._told(trial, by_key[key], found) and key not in self._known():
                self._add(key, by_key[key], found)
        known = self._known()
        for key in keys:
            if key not in known:  # another process began it and has not finished
                known[key] = measure(by_key[key], how)
                self._add(key, by_key[key], known[key])
        return [known[key] for key in keys]

    def note(self, name: str) -> str | None:
        """A text that `add_note` kept, by any process; None if there is none."""
        found = self.study.user_attrs.get(name)
        return None if found is None else str(found)

    def add_note(self, name: str, text: str) -> None:
        """Keeps a text."""
        self.study.set_user_attr(name, text)

    def _known(self) -> dict[str, Found]:
        return {str(t.user_attrs[KEY]): found for t in self._trials() if (found := _found(t)) is not None}

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _enqueue(self, candidates: dict[str, Candidate]) -> None:
        there = {str(t.user_attrs.get(KEY)) for t in self._trials() if t.state.name != "FAIL"}
        for key, candidate in candidates.items():
            if key not in there:
                self.study.enqueue_trial(parameters(candidate), user_attrs={KEY: key})

    def _next(self, wanted: Iterable[str]) -> optuna.Trial | None:
        """A waiting trial that this process now has; None if all wanted ones have been begun."""
        from optuna.trial import TrialState

        keys = set(wanted)
        for waiting in self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            if str(waiting.user_attrs.get(KEY)) not in keys:
                continue
            trial = self.study.ask()
            if trial.user_attrs.get(KEY) in keys:
                return trial
            # Another process was faster, so this trial is nobody's; or a trial of an earlier batch waited.
            self._tell(trial, state=TrialState.FAIL)
        return None

    def _told(self, trial: optuna.Trial, candidate: Candidate, found: Found) -> bool:
        """Whether the trial has the result; not if another process has finished it."""
        from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError

        try:
            for name in parameters(candidate):
                trial.suggest_categorical(name, self.choices[name])
            trial.set_user_attr(FOUND, json.loads(msgspec.json.encode(found)))
        except (UpdateFinishedTrialError, StorageInternalError):
            return False
        return self._tell(trial, values=values(found))

    def _tell(self, trial: optuna.Trial, **how: Any) -> bool:
        """Finishes a trial unless another process has: SQLite locks no rows, so `ask` may give two processes the same
        trial."""
        from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError

        try:
            self.study.tell(trial, **how)
        except (UpdateFinishedTrialError, StorageInternalError, ValueError):
            return False
        return True

    def _add(self, key: str, candidate: Candidate, found: Found) -> None:
        from optuna.distributions import CategoricalDistribution
        from optuna.trial import create_trial

        given = parameters(candidate)
        self.study.add_trial(
            create_trial(
                params=given,
                distributions={name: CategoricalDistribution(self.choices[name]) for name in given},
                values=values(found),
                user_attrs={KEY: key, FOUND: json.loads(msgspec.json.encode(found))},
            )
        )


def opened(storage: str, name: str, *, create: bool) -> optuna.Study:
    """The study in a storage.

    Raises:
        ModelError: optuna is missing, or the storage cannot be opened or has no such study.
    """
    try:
        import optuna
    except ImportError as error:
        raise ModelError(
            f"tune keeps its trials with optuna, which is not installed: {install_hint('tune')}"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    try:
        if not create:
            return optuna.load_study(study_name=name, storage=storage)
        return optuna.create_study(
            study_name=name, storage=storage or None, directions=["minimize", "minimize"], load_if_exists=True
        )
    except KeyError as error:
        raise ModelError(f"{storage} has no search named {name!r}") from error
    except Exception as error:  # SQLAlchemy and its drivers raise many kinds
        raise ModelError(f"{storage}: cannot be opened: {str(error).splitlines()[0]}") from error


def results(study: optuna.Study) -> Iterator[tuple[Candidate, Found]]:
    """What a study has measured on both halves of the samples."""
    for trial in study.get_trials(deepcopy=False):
        found = _found(trial)
        if found is not None and found.held is not None:
            yield _candidate(str(trial.user_attrs[KEY])), found


def _found(trial: optuna.trial.FrozenTrial) -> Found | None:
    content = trial.user_attrs.get(FOUND)
    return None if content is None else msgspec.convert(content, Found)


def _text(candidate: Candidate, how: How) -> str:
    pairs = [[d.subject, d.option] for d in candidate.decisions]
    return json.dumps([candidate.start, pairs, how])


def _candidate(key: str) -> Candidate:
    start, decisions, _ = json.loads(key)
    return msgspec.convert({"start": start, "decisions": [_decision(d) for d in decisions]}, Candidate)


def _decision(pair: Sequence[str]) -> dict[str, str]:
    return {"subject": pair[0], "option": pair[1]}


def choices(spaces: Mapping[str, Iterable[Decision]]) -> dict[str, tuple[str, ...]]:
    """The values of each parameter: of the start, and of each subject of the decisions about one of them."""
    found: dict[str, dict[str, None]] = {START: dict.fromkeys(spaces)}
    for decisions in spaces.values():
        for decision in decisions:
            found.setdefault(parameter(decision), {AS_IS: None})[decision.option] = None
    return {name: tuple(options) for name, options in found.items()}


def parameter(decision: Decision) -> str:
    """The parameter of a decision; a unit and the sites of a scale may have the same name."""
    return f"{'unit' if decision.option == FLOAT else 'scale'} {decision.subject}"


def parameters(candidate: Candidate) -> dict[str, str]:
    """A candidate as parameters; those that are as in the start are left out."""
    return {START: candidate.start} | {parameter(d): d.option for d in candidate.decisions}


def values(found: Found) -> list[float]:
    """What a trial minimizes: the time and the negative quality."""
    return [found.ms, -found.quality]
