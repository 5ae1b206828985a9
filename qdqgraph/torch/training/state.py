"""A calibrated or trained model on disk: weights, amax, its quantizers with their places and ties, and how they were
calibrated."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import TorchError
from ...model.writing.outputs import refuse_to_overwrite
from ...model.writing.texts import write_file
from ..calls.places import places
from ..calls.source import has_call
from ..calls.treated import TreatedModule
from ..quantization.classes import QUANTIZED_CLASSES, class_of
from ..quantization.replace import quantized_name
from ..quantizer.provenance import Provenance, provenance, remember
from ..quantizer.quantizer import Quantizer, backend_of, quantizer_paths, quantizers, refuse_meta_tensors
from .rebuilding import differences, places_in, rebuild
from .sites import describe_site

VERSION = 3
PYTHON = "{}.{}".format(*sys.version_info)
"""Sites are counted in bytecode, which differs between minor versions."""
SHOWN = 3
"""How many differences a message lists."""


@dataclass(frozen=True)
class Loaded:
    """The result of `load`.

    Attributes:
        provenance: how the model was quantized and calibrated before it was saved.
        differences: what differs between the state and the network, one sentence each; only a forced load has any.
    """

    provenance: Provenance
    differences: tuple[str, ...]


def save(model: nn.Module, path: Path | str, *, force: bool = False) -> None:
    """Writes a quantized model's state: weights and buffers in their own types, amax, the places of quantizers, ties,
    which quantizers are disabled, and how it was quantized and calibrated. `load` restores it into the network from
    before `quantize`.

    Args:
        path: the file, written completely or not at all.
        force: overwrite an existing file.

    Raises:
        TorchError: the model contains no quantizers or has tensors on the meta device, a module's extra state is not
            plain data, or the file cannot be written.
        ModelError: the file exists and `force` is not set, its folder is missing, or it is a folder or a device.
    """
    refuse_to_overwrite(Path(path), force=force)
    write_content(content_of(model), Path(path))


def load(model: nn.Module, path: Path | str, *, force: bool = False) -> Loaded:
    """Restores a state in place, on the model's own device; nothing needs to be calibrated.

    Compared are the quantized modules, the quantizers with their places, and the names and shapes of weights and
    buffers. Changes of the code elsewhere, a renamed class and another version of Python do not matter.

    Args:
        model: the network from before `quantize`, with its norms folded if they were, or one that is quantized in the
            same way.
        path: a file that `save` wrote.
        force: restore what fits even if something differs; the result lists what does not.

    Raises:
        TorchError: the file is not such a state, or, without `force`, something differs; the model is then unchanged.
    """
    return restore_content(model, read_state(Path(path)), Path(path), force=force)


def restore_content(model: nn.Module, content: Mapping[str, Any], path: Path, *, force: bool = False) -> Loaded:
    """`load`, for the content of a file."""
    found_places, missing = places_in(model, content, same_python=content["python"] == PYTHON)
    found = (*differences(model, content), *missing)
    if found and not force:
        more = f"; and {len(found) - SHOWN} more differences" if len(found) > SHOWN else ""
        raise TorchError(
            f"{path}: this is the state of another network: {'; '.join(found[:SHOWN])}{more}; if the code has changed, "
            "quantize, link and calibrate again, or force the load, which restores what fits and lists what does not"
        )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    paths = rebuild(model, content, found_places)
    state = {_renamed(name, paths): value for name, value in content["state"].items()}
    own = model.state_dict()
    fitting = _fitting(state, own) if force else state
    try:
        model.load_state_dict(fitting, strict=not force)
    except (KeyError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).strip().splitlines()[:2])
        raise TorchError(f"{path}: this is the state of another network: {reason[:300]}") from error
    model.to(device)
    known = Provenance.read(content["provenance"])
    remember(model, **known.plain())
    return Loaded(known, found)


def _renamed(name: str, paths: Mapping[str, str]) -> str:
    """The name of an entry of a state in the model, given the paths of the state's quantizers in the model."""
    path, _, entry = name.rpartition(".")
    return f"{paths.get(path, path)}.{entry}" if path else name


def _fitting(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a state that fit the model: those of its names and shapes, and amax, except that of weights that
    do not fit."""
    found = {n: x for n, x in state.items() if not n.endswith("._amax") and n in own and _fits(x, own[n])}
    left = [n.rpartition(".")[0] for n in state if not n.endswith("._amax") and n not in found]
    misfits = tuple(f"{module}._weight_quantizer" for module in left)
    return found | {n: x for n, x in state.items() if n.endswith("._amax") and not n.startswith(misfits)}


def _fits(value: Any, own: Any) -> bool:
    return not isinstance(value, Tensor) or (isinstance(own, Tensor) and own.shape == value.shape)


def content_of(model: nn.Module) -> dict[str, Any]:
    """A model's state as `save` writes it: plain data and tensors on the CPU.

    Raises:
        TorchError: as in `save`.
    """
    refuse_meta_tensors(model)
    found = quantizers(model)
    if not found:
        raise TorchError("the model contains no quantizers: there is no quantized state to save")
    first = {id(q): name for name, q in found.items()}
    return {
        "version": VERSION,
        "backend": backend_of(model).name,
        "python": PYTHON,
        "modules": {
            n: quantized_name(m, {}, n)
            for n, m in model.named_modules()
            if isinstance(m, TreatedModule) or class_of(m) in set(QUANTIZED_CLASSES.values())
        },
        "quantizers": {name: _description(q) for name, q in found.items()},
        "places": _places(model),
        "shared": {name: first[id(q)] for name, q in quantizer_paths(model).items() if first[id(q)] != name},
        "provenance": provenance(model).plain(),
        "state": {n: _storable(n, x) for n, x in model.state_dict().items()},
    }


def write_content(content: Mapping[str, Any], path: Path) -> None:
    """Writes a file completely or not at all.

    Raises:
        TorchError: it cannot be written.
    """
    try:
        write_file(path, lambda file: torch.save(content, file))
    except (OSError, RuntimeError) as error:
        raise TorchError(f"{path}: cannot be written: {error}") from error


def _places(model: nn.Module) -> dict[str, dict[str, Any]]:
    """The places of quantizers at calls, with a description of each that survives changes elsewhere in the code."""
    found = {}
    for name, place in places(model).items():
        module, site = model.get_submodule(place.module), place.call.site
        description = describe_site(site, module)
        found[name] = {
            "module": place.module,
            "operator": place.call.operator,
            "site": site,
            "known": has_call(site, module),
            "count": place.call.count,
            "operand": place.operand,
            "description": None if description is None else asdict(description),
        }
    return found


def _storable(name: str, value: Any) -> Any:
    """An entry as it is saved: a tensor on the CPU, or a module's extra state, if `load` can read it."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    refuse_unreadable([(f"{name}: this {type(value).__name__}, which the module's get_extra_state returns,", value)])
    return value


def refuse_unreadable(values: Iterable[tuple[str, Any]]) -> None:
    """Refuses values that `read_state` could not read; each has a name for messages.

    Raises:
        TorchError: a value contains an object other than plain data.
    """
    for name, value in values:
        file = io.BytesIO()
        try:
            torch.save(value, file)
            file.seek(0)
            torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # an object may raise anything
            raise TorchError(
                f"{name} contains objects other than numbers, strings, tensors, lists and dictionaries, so it cannot "
                "be saved"
            ) from error


def read_state(path: Path) -> Mapping[str, Any]:
    """The content of a file that `save` wrote.

    Raises:
        TorchError: it is not such a file.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler may raise anything on another kind of file
        reason = (str(error).splitlines() or [""])[0]
        raise TorchError(f"{path}: cannot be read as a quantized state: {type(error).__name__}: {reason}") from error
    if not isinstance(content, Mapping) or content.get("version") != VERSION:
        raise TorchError(f"{path}: this is not a quantized state of the version that this program writes ({VERSION})")
    return content


def _description(quantizer: Quantizer) -> dict[str, Any]:
    return {
        "num_bits": quantizer.num_bits,
        "unsigned": quantizer.unsigned,
        "axis": quantizer.axis,
        "method": quantizer.method,
        "percentile": quantizer.percentile,
        "disabled": quantizer._disabled,
        "backend": quantizer.library.name,
    }
