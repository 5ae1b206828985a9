"""What differs between a saved state and a network, and the quantizers of the state in the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..calls.functional import Call, Place
from ..calls.places import insert_quantizer, places
from ..calls.source import has_call
from ..calls.treated import INPUT, WEIGHT, Treatment
from ..linking.link import tie
from ..quantization.classes import QUANTIZED_CLASSES, class_of, extended_classes
from ..quantization.optimizer import convert_by_modelopt
from ..quantization.replace import convert_module, quantized_name
from ..quantization.treating import class_names, treatments
from ..quantizer.backend import MODELOPT, TOOLKIT, find_backend
from ..quantizer.fast_paths import disable_fast_paths
from ..quantizer.quantizer import Quantizer, parent_module, quantizer_paths
from .sites import Description, find_site


def differences(model: nn.Module, content: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between a state and a network in quantized modules, quantizers, and weights and buffers: one
    sentence each."""
    modules = dict(model.named_modules())
    found = []
    treated = _treated(model, content)
    for path, kind in content["modules"].items():
        own = modules.get(path)
        if own is None:
            found.append(f"the network has no module {path}, a {kind} in the state")
        elif quantized_name(own, treated, path) != kind:
            found.append(f"{path} is a {class_of(own).__name__}, in the state a {kind}")
    described = {*content["quantizers"], *content["shared"]}
    found += [
        f"{path} is a quantizer that the state does not have"
        for path in quantizer_paths(model)
        if path not in described and _is_module_quantizer(path)
    ]
    ours, theirs = _weights(model.state_dict(), model), _weights(content["state"], model, described)
    found += [f"the state has {name}, which the network does not" for name in theirs if name not in ours]
    found += [f"the network has {name}, which the state does not" for name in ours if name not in theirs]
    for name, value in theirs.items():
        own_value = ours.get(name)
        if isinstance(value, Tensor) and isinstance(own_value, Tensor) and value.shape != own_value.shape:
            found.append(f"{name} has shape {list(own_value.shape)}, in the state {list(value.shape)}")
    return tuple(found)


def _is_module_quantizer(path: str) -> bool:
    return "._functional." not in f".{path}"


def _treated(model: nn.Module, content: Mapping[str, Any]) -> dict[str, Treatment]:
    """The modules of a network that the configuration of a state treats as a class in torch.nn."""
    treat = ((content["provenance"] or {}).get("config") or {}).get("treat", {})
    known = {name for m in model.modules() for name in class_names(m)}
    return treatments(model, {name: kind for name, kind in treat.items() if name in known}, extended_classes())[0]


def _weights(state: Mapping[str, Any], model: nn.Module, quantizers: Any = ()) -> dict[str, Any]:
    """The entries of a state that are not those of quantizers."""
    inside = {*quantizers, *quantizer_paths(model)}
    return {n: x for n, x in state.items() if n.rpartition(".")[0] not in inside}


def places_in(
    model: nn.Module, content: Mapping[str, Any], *, same_python: bool
) -> tuple[dict[str, Place], tuple[str, ...]]:
    """The places of a state's quantizers at calls in the network's code, by the quantizers' paths in the state; and one
    sentence for each that the code does not have, and for each quantizer at a call where the state has none.

    Args:
        same_python: whether this minor version of Python wrote the state, so that its sites are exact.
    """
    found: dict[str, Place] = {}
    missing: list[str] = []
    modules = dict(model.named_modules())
    for name, entry in content["places"].items():
        call = Call(entry["operator"], entry["site"], entry["count"])
        module = modules.get(entry["module"])
        if module is None:
            missing.append(f"the network has no module {entry['module']}, where {name} quantizes {call}")
            continue
        site = _site(entry, module, same_python)
        if site is None:
            missing.append(f"{name}: its code has no {call}")
        else:
            found[name] = Place(entry["module"], Call(entry["operator"], site, entry["count"]), entry["operand"])
    known = set(found.values())
    extra = [name for name, place in places(model).items() if place not in known]
    return found, (*missing, *(f"{name} is a quantizer that the state does not have" for name in extra))


def _site(entry: Mapping[str, Any], module: nn.Module, same_python: bool) -> str | None:
    """The site of a saved call in a module's code; None if the code does not have it.

    A call that was not found in the module's code when the state was saved, such as one in a helper of another file, is
    taken as it is, if its site can be compared.
    """
    site, description = str(entry["site"]), entry["description"]
    if not _is_counted(site):
        return site
    if description is not None:
        return find_site(Description(**description), module)
    return site if same_python and (not entry["known"] or has_call(site, module)) else None


def _is_counted(site: str) -> bool:
    """Whether a site counts instructions; that of a module's own arguments does not."""
    return ", call " in site or ", instruction " in site


def rebuild(model: nn.Module, content: Mapping[str, Any], found: Mapping[str, Place]) -> dict[str, str]:
    """Restores quantized modules, quantizers at calls, ties and disabled quantizers from a state, as far as they fit;
    returns the paths of its quantizers in the model, by their paths in the state.

    Args:
        found: the places of quantizers at calls, by their paths in the state.
    """
    described = {**content["quantizers"], **{n: content["quantizers"][f] for n, f in content["shared"].items()}}
    if content.get("backend") == MODELOPT and not quantizer_paths(model):
        convert_by_modelopt(model)
        for name in [n for n in quantizer_paths(model) if n in described]:
            holder, child = parent_module(model, name)
            find_backend(MODELOPT).put(holder, child, _from_description(described[name]))
    modules, treated = dict(model.named_modules()), _treated(model, content)
    for name, kind in content["modules"].items():
        module = modules.get(name)
        convertible = module is not None and (name in treated or class_of(module) in QUANTIZED_CLASSES)
        if module is not None and convertible and quantized_name(module, treated, name) == kind:
            convert_module(module, _module_quantizers(name, described), treated.get(name))
    disable_fast_paths(model)
    existing = {place: path for path, place in places(model).items()}
    paths = {
        name: existing.get(place) or insert_quantizer(model, place, _from_description(described[name]))
        for name, place in found.items()
    }
    known = quantizer_paths(model)
    paths |= {name: name for name in described if name in known and name not in content["places"]}
    tie(model, [(paths[f], paths[n]) for n, f in content["shared"].items() if n in paths and f in paths])
    tied = quantizer_paths(model)
    for name, path in paths.items():
        quantizer = tied[path]
        quantizer._disabled = described[name]["disabled"]
        if f"{name}._amax" not in content["state"]:
            quantizer.set_amax(None)
    return paths


def _from_description(entry: Mapping[str, Any]) -> Quantizer:
    library = find_backend(entry.get("backend", TOOLKIT))
    made = library.new(entry["num_bits"], entry["axis"], entry["unsigned"])
    made.method, made.percentile = entry["method"], entry["percentile"]
    return made


def _module_quantizers(name: str, described: Mapping[str, Any]) -> dict[str, nn.Module]:
    """The quantizers of a quantized module; those of an LSTM are lists."""
    inside = {n.removeprefix(f"{name}."): e for n, e in described.items() if n.startswith(f"{name}.")}
    single = {n: _from_description(e) for n, e in inside.items() if n.lstrip("_") in (INPUT, WEIGHT)}
    lists: dict[str, list[Quantizer]] = {}
    for n, entry in sorted(inside.items(), key=lambda e: int(e[0].rpartition(".")[2]) if "s." in e[0] else 0):
        if n.startswith(("_input_quantizers.", "_weight_quantizers.")):
            lists.setdefault(n.rpartition(".")[0], []).append(_from_description(entry))
    return {**single, **{n: nn.ModuleList(members) for n, members in lists.items()}}
