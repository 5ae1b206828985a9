"""A calibrated or trained model on disk: weights, amax, and its quantizers with their places and ties."""

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
from ..calls.places import insert_quantizer, places
from ..calls.source import has_call
from ..linking.link import tie
from ..quantization.replace import QUANTIZED_CLASSES, class_of, convert_module, disable_fast_paths
from ..quantizer.quantizer import (
    QuantDescriptor,
    Quantizer,
    new_quantizer,
    quantizer_paths,
    quantizers,
    refuse_meta_tensors,
)

VERSION = 2
PYTHON = "{}.{}".format(*sys.version_info)
"""Calls are counted in bytecode, which differs between minor versions."""


def save(model: nn.Module, path: Path | str) -> None:
    """Writes a quantized model's state: weights and buffers in their own types, amax, the places of quantizers, ties
    and which quantizers are disabled. `load` restores it into the network from before `quantize`.

    Args:
        path: the file, written completely or not at all; an existing one is replaced.

    Raises:
        TorchError: the model contains no quantizers or has tensors on the meta device, a module's extra state is not
            plain data, or the file cannot be written.
    """
    refuse_meta_tensors(model)
    found = quantizers(model)
    if not found:
        raise TorchError("the model contains no quantizers: there is no quantized state to save")
    first = {id(q): name for name, q in found.items()}
    content = {
        "version": VERSION,
        "modules": [n for n, m in model.named_modules() if class_of(m) in set(QUANTIZED_CLASSES.values())],
        "quantizers": {name: _description(q) for name, q in found.items()},
        "python": PYTHON,
        "places": {
            name: (p.module, p.call.operator, p.call.site, p.call.count, p.operand, _has_call(model, p))
            for name, p in places(model).items()
        },
        "shared": {name: first[id(q)] for name, q in quantizer_paths(model).items() if first[id(q)] != name},
        "state": {n: _storable(n, x) for n, x in model.state_dict().items()},
    }
    try:
        with whole(Path(path)) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:
        raise TorchError(f"{path}: cannot be written: {error}") from error


def load(model: nn.Module, path: Path | str) -> None:
    """Restores a state in place, on the model's own device; nothing needs to be calibrated.

    Args:
        model: the network from before `quantize`, with its norms folded if they were, or one that is quantized in the
            same way.
        path: a file that `save` wrote.

    Raises:
        TorchError: the file is not such a state, belongs to another network or other code, or has quantized calls and
            was written by another minor version of Python.
    """
    content = read_state(Path(path))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        _rebuild(model, content)
        model.load_state_dict(content["state"])
    except (KeyError, AttributeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        raise TorchError(f"{path}: this is the state of another network: {' '.join(reason[:2])[:300]}") from error
    model.to(device)


def state_digest(state: Mapping[str, Any], *, amax: bool = True) -> str:
    """A digest of a state, 16 hexadecimal digits: equal for equal weights, buffers and amax, bit for bit.

    Args:
        state: a model's `state_dict()`.
        amax: whether amax is part of the digest.
    """
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        if not isinstance(tensor, Tensor) or (not amax and name.endswith("._amax")):
            continue  # a module's extra state, or amax
        # A copy: contiguous() does not change the strides of 0 that expand() gives to a tensor of one element.
        data = tensor.detach().cpu().clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8)
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        found.update(data.numpy().tobytes())
    return found.hexdigest()[:16]


def _storable(name: str, value: Any) -> Any:
    """An entry as it is saved: a tensor on the CPU, or a module's extra state, if `load` can read it."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # an object may raise anything
        raise TorchError(
            f"{name}: this {type(value).__name__}, which the module's get_extra_state returns, contains objects other "
            "than numbers, strings, tensors, lists and dictionaries, so it cannot be saved"
        ) from error
    return value


def read_state(path: Path) -> Mapping[str, Any]:
    """The content of a file that `save` wrote.

    Raises:
        TorchError: it is not such a file, or it has quantized calls and was written by another minor version of Python.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler may raise anything on another kind of file
        reason = (str(error).splitlines() or [""])[0]
        raise TorchError(f"{path}: cannot be read as a quantized state: {type(error).__name__}: {reason}") from error
    if not isinstance(content, Mapping) or content.get("version") != VERSION:
        raise TorchError(f"{path}: this is not a quantized state of the version that this program writes ({VERSION})")
    if content["places"] and content["python"] != PYTHON:
        raise TorchError(
            f"{path}: Python {content['python']} wrote this state, and this is Python {PYTHON}, which counts the calls "
            "with quantizers differently: load it with the former, or link and calibrate again"
        )
    return content


def _has_call(model: nn.Module, at: Place) -> bool:
    """Whether the code of a place's module contains its call; a call in a helper of another file is not found."""
    return has_call(at.call.site, model.get_submodule(at.module))


def _description(quantizer: Quantizer) -> dict[str, Any]:
    return {
        "num_bits": quantizer.num_bits,
        "unsigned": quantizer.unsigned,
        "axis": quantizer.axis,
        "method": quantizer.method,
        "percentile": quantizer.percentile,
        "disabled": quantizer._disabled,
    }


def _from_description(entry: Mapping[str, Any]) -> Quantizer:
    descriptor = QuantDescriptor(entry["num_bits"], axis=entry["axis"], unsigned=entry["unsigned"])
    return new_quantizer(descriptor, entry["method"], entry["percentile"])


def _rebuild(model: nn.Module, content: Mapping[str, Any]) -> None:
    """Restores quantized modules, functional quantizers, ties and disabled quantizers from a state."""
    described = {**content["quantizers"], **{n: content["quantizers"][f] for n, f in content["shared"].items()}}
    for name in content["modules"]:
        module = model.get_submodule(name)
        if class_of(module) in QUANTIZED_CLASSES:
            convert_module(module, _module_quantizers(name, described))
    disable_fast_paths(model)
    existing = places(model)
    for name, (module_path, operator, site, count, operand, known) in content["places"].items():
        at = Place(module_path, Call(operator, site, count), operand)
        if known and not _has_call(model, at):
            raise RuntimeError(f"its code has no {at.call}; if the code has changed, link and calibrate again")
        if name in existing:
            moved = existing[name] != at
        else:
            moved = insert_quantizer(model, at, _from_description(described[name])) != name
        if moved:
            raise KeyError(f"the functional quantizer {name} belongs to another call")
    tie(model, [(first, name) for name, first in content["shared"].items()])
    for name, quantizer in quantizers(model).items():
        quantizer._disabled = described[name]["disabled"]


def _module_quantizers(name: str, described: Mapping[str, Any]) -> dict[str, nn.Module]:
    """The quantizers of a quantized module; those of an LSTM are lists."""
    inside = {n.removeprefix(f"{name}."): e for n, e in described.items() if n.startswith(f"{name}._")}
    single = {n: _from_description(e) for n, e in inside.items() if n in ("_input_quantizer", "_weight_quantizer")}
    lists: dict[str, list[Quantizer]] = {}
    for n, entry in sorted(inside.items(), key=lambda e: int(e[0].rpartition(".")[2]) if "s." in e[0] else 0):
        if n.startswith(("_input_quantizers.", "_weight_quantizers.")):
            lists.setdefault(n.rpartition(".")[0], []).append(_from_description(entry))
    return {**single, **{n: nn.ModuleList(members) for n, members in lists.items()}}
