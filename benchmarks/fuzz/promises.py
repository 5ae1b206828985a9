"""What a command promises: files that are whole, JSON that fits its schema, texts without control characters."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np

from qdqgraph.printable import UNSAFE
from qdqgraph.report.documents import DOCUMENTS

from .judge import Judged, Ran

TEXTS = (".html", ".svg", ".dot", ".md", ".csv", ".txt", ".xml", ".sarif", ".json", ".toml", ".py")
MODELS = ("fix", "quantize", "strip", "tune", "apply", "undo")
"""Commands whose output is a model, whatever its name."""
OWN = ("o.", "sub/o.", "s.", "pages/", "rules/")
"""Beginnings of the names of outputs whose suffix tells what they contain."""
WHERE = (["rules", "new"], ["rules", "pages"])
"""Commands that write files of other names to a folder."""
Content = bytes | str
"""Of a file; or what a link names, or that it is a folder."""


def snapshot(folder: Path) -> dict[str, Content]:
    """Every file of a folder with its content."""
    found: dict[str, Content] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = "folder"
    return found


def changed(before: Mapping[str, Content], after: Mapping[str, Content]) -> list[str]:
    """The files that are new, gone or different."""
    return sorted(
        name
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name) and "__pycache__" not in name
    )


@cache
def _schemas() -> Mapping[str, jsonschema.Draft202012Validator]:
    contents = [json.loads(each.file.read_text(encoding="utf-8")) for each in DOCUMENTS]
    return {content["$id"]: jsonschema.Draft202012Validator(content) for content in contents}


def misprinted(arguments: Sequence[str], ran: Ran) -> Iterator[str]:
    """Yields what is wrong with the text that a command printed."""
    github = "github" in " ".join(arguments)
    for name, text in (("stdout", ran.out), ("stderr", ran.err)):
        if UNSAFE.search(text.replace("\n", "")):
            yield f"{name}: a control character"
        if re.search(r"^\s*::", text, re.MULTILINE) and not github:
            yield f"{name}: a workflow command"
    if ran.code == 2 and "qdqgraph: " not in ran.err:
        yield "exit 2 without a sentence"
    formats = [word for word in arguments if word == "--json" or word.startswith("--format=")]
    wanted = formats[-1:] in (["--json"], ["--format=json"])
    if wanted and ran.code in (0, 1) and (fault := _document(ran.out)):
        yield fault
    if wanted and ran.code == 2 and ran.out.strip() and arguments[0] != "check":
        yield "exit 2 with a document"


def _document(text: str) -> str:
    """What is wrong with a printed document, "" if nothing."""
    try:
        content = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        return f"stdout: no JSON: {re.sub(r'[0-9]+', 'N', str(error))[:80]}"
    schema = _schemas().get(content.get("schema", ""))
    if schema is None:
        return "stdout: no schema"
    fault = next(schema.iter_errors(content), None)
    return f"stdout: {'.'.join(map(str, fault.schema_path))[:90]}" if fault else ""


def _no_constant(name: str) -> None:
    raise ValueError(f"the constant {name}")


def broken(path: Path) -> str:
    """What is wrong with a written file, by its suffix; "" if nothing."""
    if path.suffix == ".onnx":
        return ""
    try:
        if path.suffix in TEXTS:
            text = path.read_text(encoding="utf-8")
            if found := UNSAFE.search(text.replace("\n", "").replace("\t", "")):
                return f"{path.suffix}: the control character {found[0]!r}"
        if path.suffix in (".json", ".sarif"):
            json.loads(text, parse_constant=_no_constant)
        elif path.suffix in (".svg", ".xml"):
            ElementTree.fromstring(text)
        elif path.suffix == ".npz":
            with warnings.catch_warnings(), np.load(path) as arrays:
                for name in arrays.files:
                    arrays[name]
    except Exception as error:  # noqa: BLE001 - whatever a reader raises
        return f"{path.suffix}: {type(error).__name__}: {re.sub(r'[0-9]+', 'N', str(error))[:80]}"
    return ""


def kept(
    arguments: Sequence[str], ran: Ran, before: Mapping[str, Content], after: Mapping[str, Content]
) -> Iterator[str]:
    """Yields what is wrong with the files after a command, by its exit code."""
    new, line = changed(before, after), " ".join(arguments)
    named = [name for name in new if name in line or any(part and part in line for part in _owners(name))]
    for name in new:
        if name not in named and list(arguments[:2]) not in WHERE:
            yield f"a file that no option names: {re.sub(r'[0-9a-f]{8,}|[0-9]+', 'N', name)[:60]}"
        if name in before and name not in after:
            yield f"a file is gone: {name[:40]}"
    if ran.code == 2 and arguments[0] != "check":  # which reports on the files that it can read
        for name in new:
            said = any(part in ran.err for part in (name, str(Path(name).parent)) if part != ".")  # or its folder
            if not said and not name.endswith(".db"):  # a search goes on from what it measured
                yield f"exit 2 and a file that it does not name: {Path(name).suffix or name[:20]}"


def _owners(name: str) -> tuple[str, ...]:
    """The outputs that a file may belong to: OUT.HASH.data, OUT.csv with OUT.json, a folder, a database."""
    path = Path(name)
    return (
        re.sub(r"\.[0-9a-f]+\.data$", "", name),
        str(path.with_suffix(".csv")),
        str(path.parent) if path.parent != Path() else "",
        re.sub(r"\.tune\.db.*$", "", name),
        re.sub(r"-journal$|-wal$|-shm$", "", path.name),
    )


def promised(arguments: Sequence[str], ran: Ran, folder: Path, before: Mapping[str, Content], found: Judged) -> None:
    """Notes what a command broke of its promises."""
    after = snapshot(folder)
    for fault in (*misprinted(arguments, ran), *kept(arguments, ran, before, after)):
        found.unsound(f"{arguments[0]}: {fault}", *arguments)
    if ran.code not in (0, 1):
        return
    made = {word.rpartition("=")[2] for word in arguments} if arguments[0] in MODELS else set()
    for name in changed(before, after):
        named = not name.startswith(OWN) or (name in made and name not in ("o.json", "o.html"))
        if not named and isinstance(after.get(name), bytes) and (fault := broken(folder / name)):
            found.unsound(
                f"{' '.join(arguments[:2]) if arguments[0] in ('engine', 'rules') else arguments[0]}: {fault}",
                *arguments,
            )
