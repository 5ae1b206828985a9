"""What a network returns, compared by structure with what its teacher returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn

from ...errors import TorchError

SHOWN = 400
"""The largest number of characters of an output in a message."""


def distance(found: Any, expected: Any, what: str) -> Tensor | None:
    """The distance of two outputs, a scalar in float32: the mean over their tensors of the mean squared distance, in
    units of the expected tensor's mean square.

    Compared are floating-point tensors of at least one dimension through which a gradient flows: integers, empty
    tensors, scalars (losses that a head returns) and detached results have no part in it. None: there is no such
    tensor.

    Args:
        found, expected: tensors, or dictionaries, lists, tuples and dataclasses of these.
        what: the name of the output, for messages.

    Raises:
        TorchError: they differ in structure, or in the shape of a tensor.
    """
    pairs = list(_pairs(found, expected, (found, expected), what))
    parts = [_distance(a, b) for a, b in pairs if a.requires_grad]
    return sum(parts[1:], parts[0]) / len(parts) if parts else None


def _pairs(a: Any, b: Any, whole: tuple[Any, Any], what: str) -> Iterator[tuple[Tensor, Tensor]]:
    """The tensors at equal places that can be compared."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.is_floating_point() != b.is_floating_point():
            raise _mismatch(whole, what)
        if a.is_floating_point() and a.dim() and a.numel():
            yield a, b
        return
    one, other = members(a), members(b)
    if isinstance(a, Tensor) or isinstance(b, Tensor) or (one is None) != (other is None):
        raise _mismatch(whole, what)
    if one is None or other is None:
        return
    if one.keys() != other.keys():
        raise _mismatch(whole, what)
    for key, value in one.items():
        yield from _pairs(value, other[key], whole, what)


def members(value: Any) -> Mapping[Any, Any] | None:
    """The parts of an output by key, field or index; None if it has none."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    return None


def _distance(found: Tensor, expected: Tensor) -> Tensor:
    """[...], [...] → []: mean squared distance in units of the expected tensor's own mean square."""
    expected = expected.detach().float()
    return nn.functional.mse_loss(found.float(), expected) / expected.square().mean().clamp_min(1e-12)


def _mismatch(whole: tuple[Any, Any], what: str) -> TorchError:
    found, expected = map(described, whole)
    return TorchError(
        f"{what} cannot be compared: the model gives {found}, and the teacher gives {expected}; choose another "
        "mode, or compare features alone (output 0)"
    )


def described(value: Any) -> str:
    """The structure of an output in one line: `(float32[2, 84], {boxes: float32[2, 64]})`."""
    text = _described(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    inside = members(value)
    if inside is None:
        return "None" if value is None else type(value).__name__
    if isinstance(value, list):
        return f"[{', '.join(map(_described, inside.values()))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_described, inside.values()))})"
    name = "" if type(value) is dict else type(value).__name__
    return name + "{" + ", ".join(f"{k}: {_described(v)}" for k, v in inside.items()) + "}"
