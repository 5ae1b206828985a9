"""`kind_of`: what a file is, by its content; `mistaken`: the sentence for a file of another kind than a reader wants.

A suffix decides nothing. Sources of the first bytes: of a TensorRT engine NVIDIA's sample `sampleSafeINT8`
(kPLAN_FILE_TAG, 0x74727466), of a TensorRT-RTX engine measured on 1.7.1, of the archive of torch.save
`torch/csrc/jit/serialization`, of safetensors, TFLite ("TFL3") and ORT ("ORTM") their format specifications.
"""

from __future__ import annotations

import json
import re
import shlex
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..documents import name_of
from . import kinds
from .kinds import Kind

HEAD = 4096
"""Bytes of a file that are read to recognize it; of a JSON document all, up to `LARGEST`."""
LARGEST = 64 << 20
STARTS = {
    b"ftrt": kinds.ENGINE,
    b"vtrt": kinds.RTX_ENGINE,
    b"\x08\x01\x12": kinds.SAVED_MODEL,
    b"\x89HDF\r\n\x1a\n": kinds.KERAS,
    b"GGUF": kinds.GGUF,
    b"\x93NUMPY": kinds.ARRAY,
    b"BZh": kinds.BZIP2,
    b"\xfd7zXZ\x00": kinds.XZ,
    b"\x28\xb5\x2f\xfd": kinds.ZSTD,
    b"7z\xbc\xaf\x27\x1c": kinds.SEVEN,
    b"\xff\xd8\xff": kinds.PICTURE,
    b"\x89PNG\r\n": kinds.PICTURE,
    b"GIF8": kinds.PICTURE,
}
"""Kinds by the first bytes of the file."""
TEXTS: tuple[tuple[str, Kind], ...] = (
    (r"version https://git-lfs", kinds.LFS),
    (r"[^\n]*/annex/objects/", kinds.ANNEX),
    (r"<!doctype html|<html", kinds.HTML),
    (r"<\?xml[^>]*>\s*<net\b|<net name=", kinds.OPENVINO),
    (r"<\?xml[^>]*>\s*<!doctype html", kinds.HTML),
    (r"<\?xml|<Error>", kinds.XML),
    (r"TRT-\d+-\w+", kinds.CACHE),
    (r"&&&& RUNNING|Layers:\s|.*Engine Layer Information", kinds.LOG),
    (r"(.*\n){0,40}?.*(\[\d\d/\d\d/\d{4}-[\d:]+\] \[[VIWE]\]|\[TRT\])", kinds.LOG),
)
"""Kinds of text by how it begins, without case."""
PICKLED = re.compile(rb"\x80[\x02-\x05]")
ONNX_TEXT = re.compile(r"\s*<\s*ir_version\s*:")
PROTO_TEXT = re.compile(r'\s*(ir_version|producer_name|graph|opset_import)\s*[:{]\s*[\d"\w{]')
ONNX_START = re.compile(rb"\x08[\x03-\x1f][\x12\x1a\x22\x28\x32\x3a\x42\x72]")
"""ir_version, which exporters write first, and the tag of another field of ModelProto."""
MARKS: tuple[tuple[frozenset[str], Kind], ...] = (
    (frozenset({"base_sha256", "edits"}), kinds.PLAN),
    (frozenset({"Layers"}), kinds.LAYERS),
    (frozenset({"activation_encodings"}), kinds.AIMET),
    (frozenset({"encodings"}), kinds.AIMET),
    (frozenset({"CLS", "data"}), kinds.ORT_TABLE),
    (frozenset({"irVersion", "graph"}), kinds.ONNX_TEXT),
    (frozenset({"ir_version", "graph"}), kinds.ONNX_TEXT),
)
"""Kinds of JSON documents by keys that they all have."""
DOCUMENTS: Mapping[str, Kind] = {
    "engine": kinds.SAVED_ENGINE,
    "error": kinds.ERRORS,
    "findings": kinds.FINDINGS,
    "result": kinds.RESULT,
    "sensitivity": kinds.RANKING,
}
"""Kinds of our own documents by their names, `qdqgraph.documents`."""


def kind_of(path: Path) -> Kind | None:
    """What a file or folder is; None if it cannot be read, or its content has no known form."""
    try:
        if path.is_dir():
            return kinds.SAVED_MODEL if (path / "saved_model.pb").is_file() else kinds.FOLDER
        with path.open("rb") as file:
            head = file.read(HEAD)
        return _of_head(head, path)
    except (OSError, ValueError):
        return None


def is_json(path: Path) -> bool:
    """Whether a file begins as a JSON object does; the rest is not read. False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD).decode("utf-8-sig", "ignore").lstrip().startswith("{")
    except OSError:
        return False


def mistaken(
    path: Path, wanted: str, accepts: Collection[Kind] = (), uses: Mapping[Kind, str] = MappingProxyType({})
) -> str:
    """The sentence that says what a file is instead of what a reader wants, and what takes it.

    Args:
        path: the file.
        wanted: what the reader wants, with its article.
        accepts: the kinds that the reader takes: such a file is damaged, and the reader says so itself.
        uses: what to do with files of some kinds, in place of `Kind.use`.

    Returns:
        The sentence, without the file; "" if the kind is unknown, or accepted.
    """
    kind = kind_of(path)
    if kind is None or kind in accepts:
        return ""
    words = {"file": _Word(path), "format": _text_format(path), "inside": ""}
    if kind is kinds.FOLDER:
        inside = sorted(path.glob("*.onnx"))[:3] or sorted(path.glob("*/*.onnx"))[:3]
        words["inside"] = "" if inside else kinds.NOTHING_IN
        use = f"name a file in it: {', '.join(map(str, inside))}" if inside else ""
    else:
        use = uses.get(kind, kind.use).format(**words)
    if kind is kinds.ZIP:
        words["inside"] = _members(path)
    return f"this is {kind.name.format(**words)}, not {wanted}" + (f"; {use}" if use else "")


class _Word(str):
    """A path in a command: `{file}` is a word of a shell, `{file!r}` a string of Python."""

    def __new__(cls, path: Path) -> _Word:
        return super().__new__(cls, shlex.quote(str(path)))

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return repr(str(self.path))


def _of_head(head: bytes, path: Path) -> Kind | None:
    if not head:
        return kinds.EMPTY
    if head.startswith(b"PK\x03\x04"):
        return _of_zip(path)
    if head.startswith(b"\x1f\x8b"):
        return kinds.TAR_GZIP if b"ustar" in _unzipped(head) else kinds.GZIP
    for start, kind in STARTS.items():
        if head.startswith(start):
            return kind
    for found, kind in ((b"TFL3", kinds.TFLITE), (b"ORTM", kinds.ORT)):
        if head[4:8] == found:
            return kind
    if head[257:262] == b"ustar":
        return kinds.TAR
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return kinds.PICTURE
    if _has_metadata(head, path):
        return kinds.ENGINE
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") <= path.stat().st_size - 8:
        return kinds.SAFETENSORS
    if ONNX_START.match(head):
        return kinds.ONNX
    if PICKLED.match(head):
        return kinds.PICKLE
    return _of_text(head, path)


def _has_metadata(head: bytes, path: Path) -> bool:
    """Whether an engine follows its metadata, as Ultralytics writes it: four bytes of length, JSON, the engine."""
    length = int.from_bytes(head[:4], "little")
    if head[4:5] != b"{" or length > min(path.stat().st_size, LARGEST):
        return False
    with path.open("rb") as file:
        file.seek(4 + length)
        return file.read(4) == b"ftrt"


def _of_zip(path: Path) -> Kind:
    """What a ZIP archive is, by the names in it: PyTorch's files and NumPy's are such archives."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError):
        return kinds.DAMAGED_ZIP
    inner = {name.partition("/")[2] for name in names}
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return kinds.TORCH_EXPORT
    if "constants.pkl" in inner:
        return kinds.TORCH_SCRIPT
    if "data.pkl" in inner:
        return kinds.TORCH
    if names and all(name.endswith(".npy") for name in names):
        return kinds.STATISTICS if {"header.npy", "rows.npy", "exponent.npy"} <= set(names) else kinds.ARRAYS
    return kinds.ZIP


def _members(path: Path) -> str:
    """The ONNX files in an archive, for a message."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(".onnx")]
    return f" with {', '.join(names[:3])}" if names else ""


def _unzipped(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD)
    except zlib.error:
        return b""


def _of_text(head: bytes, path: Path) -> Kind | None:
    text = head.decode("utf-8-sig", "ignore")
    if "\x00" in text or "\ufffd" in text or len(text.encode()) < len(head) - 6:
        return None
    text = text.lstrip()
    if text.startswith(("{", "[")) and not re.match(r"\[\d\d/|\[TRT|\[[VIWE]\]", text):
        return _of_json(path)
    if ONNX_TEXT.match(text) or PROTO_TEXT.match(text):
        return kinds.ONNX_TEXT
    for pattern, kind in TEXTS:
        if re.match(pattern, text, re.IGNORECASE):
            return kind
    return kinds.TEXT if text and all(c.isprintable() or c in "\r\n\t\x0c" for c in text) else None


def _text_format(path: Path) -> str:
    """The name that `onnx.load` has for an ONNX model as text."""
    try:
        with path.open("rb") as file:
            text = file.read(HEAD).decode("utf-8-sig", "ignore").lstrip()
    except OSError:
        return ""
    return "json" if text.startswith("{") else "onnxtxt" if ONNX_TEXT.match(text) else "textproto"


def _of_json(path: Path) -> Kind:
    if path.stat().st_size > LARGEST:
        return kinds.JSON
    try:
        content = json.loads(path.read_text("utf-8-sig", "replace"), strict=False)
    except (ValueError, RecursionError):
        return kinds.JSON
    return _of_list(content) if isinstance(content, list) else _of_document(content)


def _of_document(content: Any) -> Kind:
    if (kind := DOCUMENTS.get(name_of(content))) is not None:
        return kind
    keys = set(content) if isinstance(content, dict) else set()
    return next((kind for marks, kind in MARKS if marks <= keys), kinds.JSON)


def _of_list(content: list[Any]) -> Kind:
    keys = {key for entry in content[:3] if isinstance(entry, dict) for key in entry}
    has: Callable[..., bool] = keys.issuperset
    return kinds.PROFILE if has({"averageMs"}) else kinds.TIMES if has({"computeMs", "latencyMs"}) else kinds.JSON
