"""`samples_of`: samples from whatever the user gives as data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from ...errors import ModelError
from ...model import kinds
from ...model.kinds import Kind
from ...model.recognized import kind_of, mistaken
from .archives import read_npy, read_npz
from .form import Input, inputs_of
from .pictures import PICTURES, Pictures, refuse_without_pillow
from .preprocess import PRESETS, Preprocess
from .samples import Piece, Samples

ARRAYS = (".npz", ".npy")
"""Files of arrays."""

FORMS = ".npz or .npy, a folder of these or of pictures, module:function or file.py:function"
"""What --data takes, for messages."""

Data: TypeAlias = str | os.PathLike[str] | Iterable[Any] | Callable[[], Iterable[Any]] | Samples
"""Inputs of a model:

- a file of arrays (.npz or .npy), or a folder of them, or a folder of pictures;
- a list, or another iterable that can be read again, of samples;
- a function that returns or yields samples, called for each pass.

A sample is a mapping from input name to array, an array for a model with one input, or a tuple of arrays in the order
of the inputs, of which the first ones are used. An array may contain several samples along its first axis.
"""


def samples_of(
    data: Data, model: onnx.ModelProto, *, preprocess: str | Preprocess | None = None, limit: int | None = None
) -> Samples:
    """Samples for a model.

    Args:
        data: as in `Data`.
        model: the model.
        preprocess: how pictures become inputs: a preset, entries, or both (see `Preprocess.parse`).
        limit: the number of samples to use, the first ones; None for all.

    Raises:
        ModelError: there is no such file, `preprocess` is missing, wrong or without effect, the data are an iterator
            that can be read only once, or as `Samples`.
    """
    if isinstance(data, Samples):
        return data
    inputs = inputs_of(model)
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        if path.is_dir():
            return _folder(path, inputs, preprocess, limit)
        _refuse_preprocess(preprocess, path)
        if not path.exists():
            raise ModelError(f"{path}: no such file or folder; give .npz, a folder, or module:function")
        read = _reader(path, kind_of(path))
        return Samples(lambda: read(path, inputs), inputs, str(path), limit)
    _refuse_preprocess(preprocess, "data from Python")
    return _from_python(data, inputs_of(model, whole=True), limit)


def _reader(path: Path, kind: Kind | None) -> Callable[[Path, tuple[Input, ...]], Iterator[Piece]]:
    """The reader of a file, by its content; the reader reports a damaged one."""
    if kind is kinds.PICTURE or path.suffix.lower() in PICTURES:
        raise ModelError(f"{path} is one picture: give its folder, and --preprocess")
    if path.suffix.lower() == ".py":
        raise ModelError(f"{path} is a program: name its function that yields samples, as in {path}:FUNCTION")
    if kind is None or kind in (kinds.ARRAY, kinds.ARRAYS, kinds.DAMAGED_ZIP):
        return read_npy if kind is kinds.ARRAY or path.suffix.lower() == ".npy" else read_npz
    raise ModelError(f"{path}: {mistaken(path, 'a file of samples')}; --data takes {FORMS}")


def _folder(
    folder: Path,
    inputs: tuple[Input, ...],
    preprocess: str | Preprocess | None,
    limit: int | None,
) -> Samples:
    os.listdir(folder)  # noqa: PTH208 - an error if it cannot be read; rglob() finds nothing then
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    arrays = [p for p in files if p.suffix.lower() in ARRAYS]
    pictures = [p for p in files if p.suffix.lower() in PICTURES]
    if not arrays and not pictures:
        known = ", ".join((*ARRAYS, *PICTURES))
        raise ModelError(f"{folder}: no sample files; known are {known}")
    if arrays and pictures:
        raise ModelError(
            f"{folder}: contains arrays ({arrays[0].name}) and pictures ({pictures[0].name}): separate them"
        )
    if arrays:
        _refuse_preprocess(preprocess, folder)

        def chained() -> Iterator[Piece]:
            for path in arrays:
                yield from _reader(path, kind_of(path))(path, inputs)

        return Samples(chained, inputs, f"{len(arrays)} files of {folder}", limit)
    if preprocess is None:
        raise ModelError(
            f"{folder}: pictures need --preprocess: one of {', '.join(PRESETS)}, or entries such as "
            "size=224,scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225"
        )
    if len(inputs) != 1:
        raise ModelError(
            f"{folder}: pictures fit a model with one input, and this one has {len(inputs)}: give .npz files"
        )
    refuse_without_pillow(folder)
    steps = (Preprocess.parse(preprocess) if isinstance(preprocess, str) else preprocess).of(inputs[0])

    reading = Pictures(steps)

    def shown() -> Iterator[Piece]:
        for path in pictures:
            yield str(path), {inputs[0].name: reading.read(path)}

    rows, all_of_them = inputs[0].rows, len(pictures)
    used = all_of_them if limit is None else min(all_of_them, limit * rows)
    which = f"{used} pictures" if used == all_of_them else f"the first {used} of {all_of_them} pictures"
    return Samples(shown, inputs, f"{which} of {folder}, {steps.text}", limit, used // rows)


def _from_python(data: Any, inputs: tuple[Input, ...], limit: int | None) -> Samples:
    if not callable(data) and iter(data) is data:
        raise ModelError("the data can be read only once: give the function that makes them, or a list")
    count = len(data) if hasattr(data, "__len__") else None
    name = getattr(data, "__name__", type(data).__name__)
    if not callable(data):
        name = "given samples" if count is None else f"{count} given samples"

    def source() -> Iterator[Piece]:
        for index, item in enumerate(data() if callable(data) else data, 1):
            where = f"sample {index} of {name}" if callable(data) else f"sample {index}"
            yield where, _named(item, inputs, where)

    return Samples(source, inputs, name, limit, limit or count)


def _named(item: Any, inputs: tuple[Input, ...], where: str) -> Mapping[str, Any]:
    """A sample as a mapping from input name to array."""
    if isinstance(item, Mapping):
        return item
    if isinstance(item, tuple | list) and not all(isinstance(part, int | float) for part in item):
        if len(item) < len(inputs):
            raise ModelError(f"{where}: {len(item)} arrays, and the model has {len(inputs)} inputs")
        return {form.name: part for form, part in zip(inputs, item, strict=False)}
    if len(inputs) != 1:
        names = [form.name for form in inputs]
        raise ModelError(f"{where}: one array, but the model's inputs are {names}: yield mappings from name to array")
    return {inputs[0].name: item}


def _refuse_preprocess(preprocess: object, what: object) -> None:
    if preprocess is not None:
        raise ModelError(f"{what}: --preprocess is for pictures, and these are arrays: leave it out")
