"""The outputs of a network's modules while it runs, and which of them a teacher supervises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ...errors import TorchError
from ..quantizer.choice import Choice, select_modules
from .comparison import distance

OUTPUT = ""
"""The path of the network itself: its feature is the output."""


def supervised_modules(model: nn.Module, teacher: nn.Module, supervise: Choice, stride: int) -> tuple[str, ...]:
    """The paths of the modules whose outputs are compared with the teacher's; see `finetune` for the arguments.

    Raises:
        TorchError: there are none, a pattern matches none, or the teacher has no module at one of the paths.
    """
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    every = {n: m for n, m in model.named_modules() if n}
    if not callable(supervise) and not supervise:
        names = [n for n, m in every.items() if isinstance(m, kinds)]
    else:
        selected = select_modules(every, supervise, "supervise")
        names = [n for n in every if n in selected and n in dict(teacher.named_modules())]
    names = names[:: max(stride, 1)]
    unknown = set(names) - set(dict(teacher.named_modules()))
    if unknown:
        raise TorchError(f"the teacher has no module {sorted(unknown)[0]!r}: it must be the network before quantize")
    if not names:
        raise TorchError("no module is supervised: choose modules that the teacher has as well")
    return tuple(names)


@contextmanager
def recorded_features(model: nn.Module, names: tuple[str, ...]) -> Iterator[dict[str, list[Any]]]:
    """What modules returned since the dictionary was last cleared, by path: one entry for each of their runs.

    Args:
        names: paths of modules; `OUTPUT` is the network itself.
    """
    found: dict[str, list[Any]] = {}
    handles = []
    for name in names:

        def keep(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            found.setdefault(name, []).append(output)

        handles.append(model.get_submodule(name).register_forward_hook(keep))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def feature_distance(
    ours: Mapping[str, list[Any]], theirs: Mapping[str, list[Any]], names: tuple[str, ...]
) -> Tensor | None:
    """The mean distance of the features of these modules, a scalar; see `distance`. None: none of them ran, or no
    gradient flows through any.

    Raises:
        TorchError: a module ran more often in one network, or its outputs differ in structure or shape.
    """
    parts = []
    for name in names:
        found, expected = ours.get(name, []), theirs.get(name, [])
        what = f"the output of {name}" if name != OUTPUT else "the outputs"
        if len(found) != len(expected):
            raise TorchError(
                f"{what} cannot be compared: it ran {len(found)} times in the model and {len(expected)} times in the "
                "teacher; choose another mode, or supervise other modules"
            )
        runs = [distance(a, b, what) for a, b in zip(found, expected, strict=True)]
        known = [run for run in runs if run is not None]
        parts += [sum(known[1:], known[0]) / len(known)] if known else []
    return sum(parts[1:], parts[0]) / len(names) if parts else None
