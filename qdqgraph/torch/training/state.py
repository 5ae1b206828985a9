"""A calibrated or trained model on disk: weights, amax, and where its quantizers stand and what they share."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import TorchError
from ...model.files import whole
from ..calls.functional import Call, Place
from ..calls.places import place, places
from ..calls.source import is_known
from ..linking.link import tie
from ..quantization.replace import TWINS, kind_of, retype, take_slow_paths
from ..quantizer.quantizer import QuantDescriptor, Quantizer, made, paths, quantizers, refuse_meta

VERSION = 2
PYTHON = "{}.{}".format(*sys.version_info)
"""Calls are counted in compiled code, which is another one in each minor version."""


def save(model: nn.Module, path: Path | str) -> None:
    """Writes a quantized model's state, whole or not at all; `load` restores it into the network as it was before
    `quantize`: weights and buffers in their own types, amax, places, ties and what is switched off.

    Args:
        path: a file that is there is replaced.

    Raises:
        TorchError: the model holds no quantizers or has tensors on the meta device, a module's extra state is no plain
            data, or the file cannot be written.
    """
    refuse_meta(model)
    found = quantizers(model)
    if not found:
        raise TorchError("the model holds no quantizers: there is no quantized state to save")
    first = {id(q): name for name, q in found.items()}
    content = {
        "version": VERSION,
        "modules": [n for n, m in model.named_modules() if kind_of(m) in set(TWINS.values())],
        "quantizers": {name: _described(q) for name, q in found.items()},
        "python": PYTHON,
        "places": {
            name: (p.module, p.call.operator, p.call.where, p.call.count, p.operand, _known(model, p))
            for name, p in places(model).items()
        },
        "shared": {name: first[id(q)] for name, q in paths(model).items() if first[id(q)] != name},
        "state": {n: _kept(n, x) for n, x in model.state_dict().items()},
    }
    try:
        with whole(Path(path)) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:
        raise TorchError(f"{path}: cannot be written: {error}") from error


def load(model: nn.Module, path: Path | str) -> None:
    """Restores a state in place; nothing is calibrated again, on whatever device the model is.

    Args:
        model: the network as it was before `quantize`, norms folded where they were, or quantized alike already.
        path: a file that `save` wrote.

    Raises:
        TorchError: the file is no such state, of another network or of other code, or it has quantized calls and
            another minor version of Python wrote it.
    """
    content = read(Path(path))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        _rebuild(model, content)
        model.load_state_dict(content["state"])
    except (KeyError, AttributeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        raise TorchError(f"{path}: this is the state of another network: {' '.join(reason[:2])[:300]}") from error
    model.to(device)


def digest(state: Mapping[str, Any], *, amax: bool = True) -> str:
    """A fingerprint: models whose states have the same hold the same weights, buffers and amax, bit for bit.

    Args:
        state: a model's `state_dict()`.
        amax: whether amax counts as well.
    """
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        if not isinstance(tensor, Tensor) or (not amax and name.endswith("._amax")):
            continue  # a module's extra state, or what calibration is to find
        # A copy: contiguous() leaves the strides of 0 that expand() gives to a tensor of one element.
        data = tensor.detach().cpu().clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8)
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        found.update(data.numpy().tobytes())
    return found.hexdigest()[:16]


def _kept(name: str, value: Any) -> Any:
    """What a state keeps of an entry: a tensor on the CPU, or a module's extra state where `load` can read it again."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever an object of any class raises
        raise TorchError(
            f"{name}: this {type(value).__name__}, which the module's get_extra_state returns, is not made of numbers, "
            "strings, tensors, lists and dictionaries alone, so it cannot be saved"
        ) from error
    return value


def read(path: Path) -> Mapping[str, Any]:
    """The content of a file that `save` wrote.

    Raises:
        TorchError: it is none, or it has quantized calls and another minor version of Python wrote it.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler meets in a file that is none of its own
        reason = (str(error).splitlines() or [""])[0]
        raise TorchError(f"{path}: cannot be read as a quantized state: {type(error).__name__}: {reason}") from error
    if not isinstance(content, Mapping) or content.get("version") != VERSION:
        raise TorchError(f"{path}: this is no quantized state that this version writes (version {VERSION})")
    if content["places"] and content["python"] != PYTHON:
        raise TorchError(
            f"{path}: Python {content['python']} wrote this state, and this is Python {PYTHON}, which counts the calls "
            "that hold quantizers otherwise: load it there, or link and calibrate anew"
        )
    return content


def _known(model: nn.Module, at: Place) -> bool:
    """Whether the code of a place's module shows its call; what another file's helper calls it may not."""
    return is_known(at.call.where, model.get_submodule(at.module))


def _described(quantizer: Quantizer) -> dict[str, Any]:
    return {
        "num_bits": quantizer.num_bits,
        "unsigned": quantizer.unsigned,
        "axis": quantizer.axis,
        "method": quantizer.method,
        "percentile": quantizer.percentile,
        "disabled": quantizer._disabled,
    }


def _quantizer(entry: Mapping[str, Any]) -> Quantizer:
    descriptor = QuantDescriptor(entry["num_bits"], axis=entry["axis"], unsigned=entry["unsigned"])
    return made(descriptor, entry["method"], entry["percentile"])


def _rebuild(model: nn.Module, content: Mapping[str, Any]) -> None:
    """Twins, functional quantizers, ties and switches as the state says."""
    described = {**content["quantizers"], **{n: content["quantizers"][f] for n, f in content["shared"].items()}}
    for name in content["modules"]:
        module = model.get_submodule(name)
        if kind_of(module) in TWINS:
            retype(module, _children(name, described))
    take_slow_paths(model)
    standing = places(model)
    for name, (module_path, operator, where, count, operand, known) in content["places"].items():
        at = Place(module_path, Call(operator, where, count), operand)
        if known and not _known(model, at):
            raise RuntimeError(f"its code has no {at.call}; where the code has changed, link and calibrate anew")
        elsewhere = standing[name] != at if name in standing else place(model, at, _quantizer(described[name])) != name
        if elsewhere:
            raise KeyError(f"the functional quantizer {name} stands elsewhere")
    tie(model, [(first, name) for name, first in content["shared"].items()])
    for name, quantizer in quantizers(model).items():
        quantizer._disabled = described[name]["disabled"]


def _children(name: str, described: Mapping[str, Any]) -> dict[str, nn.Module]:
    """The quantizers of a module's twin; those of an LSTM are lists."""
    inside = {n.removeprefix(f"{name}."): e for n, e in described.items() if n.startswith(f"{name}._")}
    single = {n: _quantizer(e) for n, e in inside.items() if n in ("_input_quantizer", "_weight_quantizer")}
    lists: dict[str, list[Quantizer]] = {}
    for n, entry in sorted(inside.items(), key=lambda e: int(e[0].rpartition(".")[2]) if "s." in e[0] else 0):
        if n.startswith(("_input_quantizers.", "_weight_quantizers.")):
            lists.setdefault(n.rpartition(".")[0], []).append(_quantizer(entry))
    return {**single, **{n: nn.ModuleList(members) for n, members in lists.items()}}
