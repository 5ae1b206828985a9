"""The files that a command reads, of every kind that an argument can name; some are damaged, some of another kind."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import onnx

import qdqgraph
from qdqgraph.errors import QdqgraphError
from tests.support.paths import ROOT

from . import mutate, wide
from .dress import dressed
from .judge import Judged
from .networks import networks
from .seeds import SETTINGS, seeds

DATA = ROOT / "tests" / "data"
CODE = """import numpy as np


def score(run):
    return float(sum(np.asarray(v, dtype=np.float64).sum() for v in run(SAMPLE).values()))


def wrong(run):
    return {value}


def data():
    yield {{"x": np.ones((1, 4, 8, 8), np.float32)}}
    yield {value}


SAMPLE = {{"x": np.ones((1, 4, 8, 8), np.float32)}}
"""
DTYPES = ("float16", "float64", "int8", "int64", "bool", "complex64", "U3", "S2", "V4", ">f4", "datetime64[s]")


@cache
def _weighted() -> tuple[onnx.ModelProto, ...]:
    """The networks with a convolution or a matrix product."""
    return tuple(m for m in networks() if any(n.op_type in ("Conv", "MatMul", "Gemm") for n in m.graph.node))


class Files:
    """The files of one folder: each is made when an argument first names its kind.

    Attributes:
        folder: where they are; it is the current folder.
        base: the network of the model.
        damaged: the share of files that are damaged.
    """

    def __init__(self, folder: Path, random: Random, found: Judged) -> None:
        self.folder, self.random, self._run = folder, random, found.run
        self.damaged = random.choice((0.0, 0.2, 0.5))
        self.base = dressed(random.choice(_weighted() if random.random() < 0.6 else networks()), random)
        self._made: dict[str, str] = {}

    def of(self, kind: str) -> str:
        """The name of a file of this kind; at times of another kind, or of no file."""
        drawn = self.random.random()
        if drawn < 0.03:
            return self.random.choice(("none", "sub", ".", "", "loop", "empty", "/dev/null", "x" * 300))
        kind = self.random.choice(tuple(KINDS)) if drawn < 0.06 else kind
        if kind not in self._made:
            self._made[kind] = KINDS[kind](self)
        return self._made[kind]

    def write(self, name: str, content: bytes | str) -> str:
        """Writes a file; returns its name."""
        self._place(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    def _place(self, name: str) -> Path:
        """Where a file is written; a folder there, the output of an earlier command, is removed."""
        if (path := self.folder / name).is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        return path

    def hurts(self) -> bool:
        """Whether the next file is damaged."""
        return self.random.random() < self.damaged

    def text(self, name: str, content: str) -> str:
        """A text, at times damaged."""
        return self.write(name, mutate.text(content, self.random) if self.hurts() else content)

    def document(self, name: str, content: str) -> str:
        """A JSON document, at times damaged in its values or its text."""
        if not self.hurts():
            return self.write(name, content)
        whole = self.random.random() < 0.8
        return self.write(
            name, mutate.document(json.loads(content), self.random) if whole else mutate.text(content, self.random)
        )

    def model(self) -> str:
        """A quantized network, some with external data."""
        return self._network("m.onnx", self.base)

    def floats(self) -> str:
        """The same network without pairs."""
        try:
            plain = qdqgraph.strip(self.base, nodes=["*"]).model
        except QdqgraphError:
            plain = self.base
        return self._network("f.onnx", plain)

    def _network(self, name: str, network: onnx.ModelProto) -> str:
        content = mutate.model(network, self.random) if self.hurts() else network.SerializeToString()
        self.write(name, content)
        if self.random.random() < 0.3:
            self._external(name, content)
        return name

    def _external(self, name: str, content: bytes) -> None:
        """Moves the constants to another file, which is damaged at times."""
        data = f"{name}.data"
        try:
            model = onnx.ModelProto.FromString(content)
            onnx.save(model, name, save_as_external_data=True, location=data, size_threshold=0)
        except Exception:  # noqa: BLE001 - a model that onnx cannot save stays as it is
            self.write(name, content)
        if not (self.folder / data).is_file() or not self.hurts():
            return
        kind = self.random.randrange(6)
        bytes_of = (self.folder / data).read_bytes()
        if kind == 0:
            self.write(data, bytes_of[: self.random.randrange(len(bytes_of) + 1)])
        elif kind == 1:
            self.write(data, mutate.raw(bytes_of, self.random))
        elif kind == 2:
            (self.folder / data).unlink()
            (self.folder / data).symlink_to(self.random.choice(("/etc/hostname", "sub", "loop", "other.data")))
            self.write("other.data", bytes_of)
        elif kind == 3:
            (self.folder / data).unlink()
            (self.folder / data).mkdir()
        elif kind == 4:
            (self.folder / data).unlink()
        else:
            self._entries(name)

    def _entries(self, name: str) -> None:
        """Other places of constants in their file."""
        model = onnx.load(name, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if self.random.random() < 0.2:
                    entry.value = self.random.choice(
                        ("-1", "abc", "9" * 19, "", "../x", "1", "/etc/hostname", "\n", "٣")
                    )
        self.write(name, model.SerializeToString())

    def plan(self) -> str:
        """A plan for the model, and `fixed.onnx`, its result."""
        words = ["fix", self.of("model"), "-o", "fixed.onnx", "--plan", "p.json", "--no-numerics", "--no-config"]
        if self._run(*words, *(["--fp16"] if self.random.random() < 0.3 else [])) != 0:
            return self.document("p.json", (DATA / "plan.json").read_text())
        return self.document("p.json", (self.folder / "p.json").read_text())

    def fixed(self) -> str:
        """The repaired model; it has a plan."""
        self.of("plan")
        return "fixed.onnx"

    def data(self) -> str:
        """Samples in one of the forms that a command takes, and forms that none takes."""
        kind = self.random.randrange(8)
        path = wide.samples(self._place("d.npz"), self.base, self.random)
        if kind == 0 and self.hurts():
            return self._damaged(path)
        times = self.random.choice((1, 4))
        arrays = {name: np.concatenate([array] * times) for name, array in np.load(path).items()}
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        if kind == 1 and arrays:
            folder = self.folder / "samples"
            folder.mkdir(exist_ok=True)
            for number in range(2):
                np.savez(folder / f"{number}.npz", allow_pickle=False, **arrays)
            if self.hurts():
                (folder / "note.txt").write_text("x")
            return "samples"
        if kind == 2:
            np.save(self.folder / "d.npy", next(iter(arrays.values()), np.zeros(3)))
            return "d.npy"
        if kind == 3:
            value = self.random.choice(("1", "None", "{}", "{'x': 1}", "{'x': [[1, 2], [3]]}", "float('nan')", "1 / 0"))
            return f"{self.write('code.py', CODE.format(value=value))}:{self.random.choice(('data', 'score', 'none'))}"
        if kind == 4 and arrays and self.hurts():
            name = self.random.choice(sorted(arrays))
            arrays[self.random.choice((name, "other", ""))] = self._odd(arrays.pop(name))
            with path.open("wb") as file:
                np.savez(file, allow_pickle=True, **arrays)
        return path.name

    def _odd(self, array: np.ndarray) -> np.ndarray:
        """An array of another shape, type or order."""
        kind = self.random.randrange(6)
        if kind == 0:
            return np.asarray(array[:0])
        if kind == 1:
            return np.array(3.0, np.float32)
        if kind == 2:
            return np.zeros(array.shape, self.random.choice(DTYPES))
        if kind == 3:
            return np.asfortranarray(array)
        if kind == 4:
            return np.array([None, {}], dtype=object)
        return np.concatenate([array, array[:1]])

    def _damaged(self, path: Path) -> str:
        """An archive with other bytes, an encrypted member, an odd name or header."""
        content = path.read_bytes()
        kind = self.random.randrange(4)
        if kind == 0:
            return self.write(path.name, mutate.raw(content, self.random))
        if kind == 1:
            locked = bytearray(content)
            for mark, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
                if (found := locked.find(mark)) >= 0:
                    locked[found + at] |= 1
            return self.write(path.name, bytes(locked))
        header = self.random.choice(
            (b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4'}", b"\x93NUMPY\x09\x00", b"", b"\x93NUMPY\x01\x00\xff\xff(")
        )
        if kind == 2:
            header = (
                b"\x93NUMPY\x01\x00v\x00"
                + (
                    b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }"
                    % self.random.choice((b"-1", b"9" * 20, b"4294967296"))
                ).ljust(0x75)
                + b"\n"
            )
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            archive.writestr(self.random.choice(("x.npy", "../x.npy", "x", "\u202e.npy")), header + bytes(64))
        return self.write(path.name, made.getvalue())

    def table(self) -> str:
        """Ranges of tensors, in one of the formats."""
        return wide.table(self.folder / "t.txt", self.base, self.random).name

    def statistics(self) -> str:
        """Statistics that an earlier run kept."""
        words = ["--statistics", "s.npz", "--dry-run", "--no-config"]
        self._run("fix", self.of("model"), "--data", self.of("data"), *words)
        path = self.folder / "s.npz"
        if path.exists() and self.hurts():
            path.write_bytes(mutate.raw(path.read_bytes(), self.random))
        return "s.npz"

    def engine(self) -> str:
        """An engine that a command saved."""
        if self._run("engine", "forecast", self.of("model"), "-o", "e.json") != 0:
            self._run("engine", "read", DATA / "qat.graph.json", "-o", "e.json", "--force")
        path = self.folder / "e.json"
        return self.document("e.json", path.read_text()) if path.exists() else "e.json"

    def layers(self) -> str:
        """Layer info that trtexec exported."""
        return self._exported(".graph.json")

    def profile(self) -> str:
        """Times of layers."""
        return self._exported(".profile.json")

    def log(self) -> str:
        """A log, or another export."""
        return self._exported(".log", ".txt", ".json")

    def _exported(self, *ends: str) -> str:
        path = self.random.choice([each for each in sorted(DATA.iterdir()) if each.name.endswith(ends)])
        text = path.read_text()
        return self.document(path.name, text) if path.suffix == ".json" else self.text(path.name, text)

    def ranking(self) -> str:
        """The worst units, of `sensitivity`."""
        words = [self.of("model"), "--data", self.of("data"), "--no-config"]
        self._run("sensitivity", *words, "-o", "r.json")
        path = self.folder / "r.json"
        units = '{"schema": "urn:qdqgraph:sensitivity:2", "units": [{"name": "x", "gain": 1.0, "tensors": ["x"]}]}'
        return self.document("r.json", path.read_text() if path.exists() else units)

    def settings(self) -> str:
        """A settings file."""
        self.of("rule")
        return self.text("settings.toml", SETTINGS)

    def rule(self) -> str:
        """A rule in TOML."""
        found = [text for name, text in seeds().rules if name.endswith(".toml")]
        found += [path.read_text() for path in sorted((ROOT / "samples" / "rules").glob("*.toml"))]
        text = re.sub(r'code = "[A-Z]+', 'code = "MYX', self.random.choice(found))
        text = re.sub(r'^name = ".*', 'name = "my-own"', text, count=1, flags=re.MULTILINE)
        return self.text("rule.toml", text)

    def score(self) -> str:
        """A function that scores a network."""
        value = self.random.choice(("1", "None", "'x'", "float('nan')", "[1, 2]", "1 / 0", "run({})", "run(None)"))
        self.write("code.py", CODE.format(value=value))
        return f"code.py:{self.random.choice(('score', 'wrong', 'wrong', 'none', ''))}"

    def storage(self) -> str:
        """A database of an earlier search, or a file that is none."""
        self.write("old.db", self.random.choice((b"", b"SQLite format 3\x00" + bytes(200), b"text")))
        return self.random.choice(("sqlite:///new.db", "sqlite:///old.db", "sqlite:///no/new.db", "nothing://x", "x"))


KINDS: dict[str, Callable[[Files], str]] = {
    "data": Files.data,
    "engine": Files.engine,
    "fixed": Files.fixed,
    "floats": Files.floats,
    "layers": Files.layers,
    "log": Files.log,
    "model": Files.model,
    "plan": Files.plan,
    "profile": Files.profile,
    "ranking": Files.ranking,
    "rule": Files.rule,
    "score": Files.score,
    "settings": Files.settings,
    "statistics": Files.statistics,
    "storage": Files.storage,
    "table": Files.table,
}


def furnish(folder: Path) -> None:
    """Adds to a folder what arguments name that is no file for them: a folder, a loop, an empty file, an old output."""
    (folder / "sub").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "empty").write_bytes(b"")
    (folder / "old").write_text("old")
    shutil.copy(DATA / "README.md", folder / "note.md")
