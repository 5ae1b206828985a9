"""Runs a rule on a graph: within a limit of time and of work, with its file and line in every error."""

from __future__ import annotations

import ctypes
import math
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from ..errors import ProposalError, QdqgraphError, RuleError
from ..graph.graph import Graph
from .capture import separated
from .finding import Finding
from .proposed import check, work

if TYPE_CHECKING:
    from .rule import Rule

WORK_BASE, WORK_PER_NODE = 10_000, 100
"""A rule may yield this many findings and edits in one scan, and this many more for each node of the graph."""


class _OvertimeError(BaseException):
    """Raised in the thread of a rule that exceeds its time; no Exception, because rules may catch these."""


def findings(graph: Graph, rule: Rule) -> list[Finding]:
    """Returns the findings of a rule, checked against the graph.

    Raises:
        RuleError: the rule crashed, exceeded its limits, or proposes what the graph does not allow (QDQ901); with its
            file and line.
    """
    most = WORK_BASE + WORK_PER_NODE * len(graph.nodes())
    try:
        with _limited(rule.seconds):
            return separated(graph, lambda view: list(_checked(view, rule, most)))
    except _OvertimeError as error:
        where = _where(error, rule.file) or str(rule.file)
        raise RuleError(
            f"QDQ901: {where}: rule {rule.code} was stopped after {rule.seconds:g} seconds in one scan of "
            f"{len(graph.nodes()):,} nodes; if it needs more, set `seconds` in the rule"
        ) from None
    except ProposalError as error:
        raise RuleError(f"QDQ901: {_where(error, rule.file) or rule.file}: rule {rule.code}: {error}") from error
    except QdqgraphError:
        raise
    except (Exception, SystemExit) as error:
        where = _where(error, rule.file)
        at = f" at {where}" if where else ""
        raise RuleError(f"QDQ901: rule {rule.code} crashed{at}: {type(error).__name__}: {error}") from error


def _checked(graph: Graph, rule: Rule, most: int) -> Iterator[Finding]:
    """Yields the findings of a rule; each is checked when it is yielded."""
    source = rule.find(graph)
    if isinstance(source, str) or not isinstance(source, Iterable):
        raise ProposalError(f"find returns {source!r}; write: yield self.finding(node, message)")
    done = 0
    for found in source:
        try:
            check(graph, found)
            done += work(found)
            if done > most:
                raise ProposalError(
                    f"it was stopped after {done:,} findings and edits in one scan of {len(graph.nodes()):,} nodes"
                )
        except ProposalError as error:
            line = _line(source, rule.file)
            raise _PlacedError(str(error), f"{rule.file}:{line}" if line else str(rule.file)) from error
        yield found


class _PlacedError(ProposalError):
    """A wrong proposal, with the file and line of the `yield`."""

    def __init__(self, message: str, where: str) -> None:
        super().__init__(message)
        self.where = where


def _where(error: BaseException, file: Path) -> str:
    """Returns the file and the last line of a rule in a traceback; "" if it has none."""
    if isinstance(error, _PlacedError):
        return error.where
    frames = traceback.extract_tb(error.__traceback__)
    line = next((f.lineno for f in reversed(frames) if Path(f.filename).name == file.name), None)
    return f"{file}:{line}" if line else ""


def _line(source: Any, file: Path) -> int | None:
    """Returns the line at which a generator of a rule waits; None if it is no generator, or of another file."""
    line = None
    while source is not None:
        code, frame = getattr(source, "gi_code", None), getattr(source, "gi_frame", None)
        if isinstance(code, CodeType) and frame is not None and Path(code.co_filename).name == file.name:
            line = frame.f_lineno
        source = getattr(source, "gi_yieldfrom", None)
    return line


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises `_OvertimeError` in this thread if the block runs for longer; a call into C is stopped when it returns."""
    if math.isinf(seconds):
        yield
        return
    thread, lock, ended = ctypes.c_ulong(threading.get_ident()), threading.Lock(), threading.Event()

    def stop() -> None:
        with lock:
            if not ended.is_set():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_OvertimeError))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:  # an exception that was set before is raised in the next few instructions, inside this block
            ended.set()
        timer.cancel()
