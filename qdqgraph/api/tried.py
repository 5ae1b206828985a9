"""`Builds`: the candidates of a search as engines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

import msgspec
import onnx

from ..engines.builders.builder import built
from ..engines.builders.how import Build
from ..engines.builders.limits import Limits
from ..engines.compare.storage import Storage
from ..engines.layers import Engine
from ..errors import EngineError
from ..model.content import content
from ..model.writing.folders import temporary_folder
from ..model.writing.models import Source, placed, write_model
from ..search.decisions import Candidate
from ..search.found import Found
from ..search.front import Measured
from ..search.outcome import Built
from ..search.trials import Trials
from .given import Progress
from .starting import Asked, Repaired

STORED = "tensorrt-rtx"
"""The library that builds without running: it gives bytes, no times."""
LIMITS = Limits(600.0, 8192)


class Builds:
    """Builds candidates, at most so many. The results are in the storage of the search, by the digest of the model, and
    those of an earlier run count too: a search that goes on, or is asked again, chooses among the same engines.

    Args:
        library: a name of `engines.builders.LIBRARIES`.
        most: the most engines, built now or before.
        memo: the storage.
        asked: the models.
        starts: the starts, by name.
        progress: called with one line before each build.
    """

    def __init__(
        self,
        library: str,
        most: int,
        memo: Trials,
        asked: Asked,
        starts: Mapping[str, Repaired],
        progress: Progress,
    ) -> None:
        self.library, self.most, self.count = library, most, 0
        self.found: dict[Candidate, Built] = {}
        self.notes: tuple[str, ...] = ()
        self._memo, self._asked, self._starts, self._progress = memo, asked, starts, progress
        self._used: set[str] = set()

    @property
    def clocked(self) -> bool:
        """Whether the library measures times."""
        return self.library != STORED

    def built(self, candidates: Iterable[Measured]) -> list[Measured]:
        """The candidates of which there is an engine, with its time if the library measures one."""
        kept: list[Measured] = []
        for measured in candidates:
            model = self._model(measured.candidate)
            if len(self._used) >= self.most and self._key(model) not in self._used:
                continue
            own = self.found[measured.candidate] = self._of(model)
            if own.refused:
                self.notes = (*self.notes, f"{self.library} refuses a candidate of the front: {own.refused}")
            else:
                ms = measured.found.ms if own.ms is None else own.ms
                kept.append(Measured(measured.candidate, replace(measured.found, ms=ms)))
        if not kept:
            raise EngineError(f"{self.library} builds none of the candidates: {self.notes[-1]}")
        return kept

    def floats(self, found: Found) -> Found:
        """The float network, with its measured time if the library gives one."""
        if not self.clocked:
            return found
        start = next(iter(self._starts.values())).start
        own = self._of(start.float_model)
        return found if own.ms is None else replace(found, ms=own.ms)

    def _model(self, candidate: Candidate) -> onnx.ModelProto:
        return self._starts[candidate.start].start.made(candidate).model

    def _key(self, model: onnx.ModelProto) -> str:
        return f"{self.library} {content(model, self._asked.folder)}"

    def _of(self, model: onnx.ModelProto) -> Built:
        name = self._key(model)
        self._used.add(name)
        if (text := self._memo.note(name)) is not None:
            return msgspec.json.decode(text, type=Built)
        self.count += 1
        self._progress(f"build {self.count} of at most {self.most}")
        new = self._build(model)
        self._memo.add_note(name, json.dumps(json.loads(msgspec.json.encode(new))))
        return new

    def _build(self, model: onnx.ModelProto) -> Built:
        with temporary_folder() as folder:
            path = folder / "candidate.onnx"
            source = Source(self._asked.source, self._asked.folder, self._asked.proto)
            write_model(placed(model, path, source), path, source)
            try:
                engine = built(path, self.library, Build("qdq", {}, LIMITS, folder / "kept"))
            except EngineError as error:
                return Built(self.library, None, None, None, str(error).splitlines()[0])
        return _figures(self.library, engine)


def _figures(library: str, engine: Engine) -> Built:
    if library != STORED:
        return Built(library, None if engine.times is None else engine.times.compute_ms, None, None, "")
    storage = Storage.of(engine)
    return Built(library, None, storage.boundary_bytes, storage.int8_convolutions, "")
