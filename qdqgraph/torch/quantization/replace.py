"""`quantize`: converts every module to its quantized counterpart in pytorch-quantization, if there is one, in place.

Instances get another class: parameters, buffers, hooks, dtype and all other attributes stay, and the library's
constructors, which do not support newer arguments of torch, are never called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from ...errors import TorchError
from ..calls.functional import CALLED
from ..calls.places import places, remove_quantizers
from ..calls.treated import INPUT, WEIGHT, WEIGHTED, TreatedModule, Treatment, untreat
from ..exporting.export import shorten_list
from ..quantizer.backend import MODELOPT, TOOLKIT, find_backend
from ..quantizer.base import Quantizer
from ..quantizer.choice import Choice, matches, select_modules
from ..quantizer.fast_paths import disable_fast_paths
from ..quantizer.provenance import remember
from ..quantizer.quantizer import qnn, quantizers
from ..quantizer.wrapped import refuse_wrapped
from .classes import QUANTIZED_CLASSES, TRANSPOSED, class_of, extended_classes
from .config import Config, Spec, specs_for
from .insert import insert_at_operator
from .optimizer import convert_by_modelopt, place_quantizers
from .treating import treatments


@dataclass(frozen=True)
class Quantized:
    """What `quantize` did, by module path.

    Attributes:
        replaced: modules that were converted to their quantized counterparts.
        ignored: modules that the configuration, or with "modelopt" also its INT8_DEFAULT_CFG, leaves in float.
        left: modules without a counterpart whose base class has one: subclasses whose forward does not allow it, LSTMs
            with projections, and modules inside scripted ones.
        inserted: quantizers at functional operators.
        treated: of the modules in `replaced`, those of other classes, with the class in torch.nn whose call inside
            their own forward is quantized.
        reasons: why subclasses are in `left`.
    """

    replaced: tuple[str, ...]
    ignored: tuple[str, ...]
    left: tuple[str, ...]
    inserted: tuple[str, ...]
    treated: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


def quantize(
    model: nn.Module, config: Config | None = None, example: Any = None, *, backend: str = TOOLKIT
) -> Quantized:
    """Quantizes a model in place; `calibrate` then finds amax.

    Args:
        model: float, on any device.
        config: which modules and how; None: all, INT8, max, weights per output channel.
        example: an input, a tuple of inputs, or a mapping of keyword arguments, as for `export`; needed
            if the configuration lists functional operators.
        backend: the library whose quantizers the model gets, "pytorch-quantization" or "modelopt". With "modelopt",
            modules that INT8_DEFAULT_CFG excludes by name are left in float too; a model that Model Optimizer quantized
            gets those of subclasses, which that library leaves in float, and keeps its own.

    Raises:
        TorchError: a pattern matches no module that can be quantized, the settings of a quantizer contradict each
            other, a class that the configuration treats as another does not occur or does not allow it, the backend is
            not installed, or the model is already quantized, compiled, scripted or wrapped for several devices. An
            error leaves the model unchanged; with "modelopt", one about functional operators does not.
    """
    config = config or Config()
    refuse_wrapped(model)
    every_module = dict(model.named_modules())
    if class_of(model) in QUANTIZED_CLASSES:
        name = class_of(model).__name__
        raise TorchError(f"the model is a single {name}: wrap it in a module, for example nn.Sequential")
    existing = quantizers(model)
    treated, reasons = treatments(model, config.treat, extended_classes())
    extended = bool(existing) and backend == MODELOPT  # the library has converted every class that it knows
    modules = {
        n: m
        for n, m in model.named_modules()
        if n in treated or (class_of(m) in QUANTIZED_CLASSES and _is_supported(m) and not extended)
    }
    first = {m: n for n, m in modules.items()}
    every = {n: m for n, m in model.named_modules(remove_duplicate=False) if m in first}
    library = find_backend(backend)
    if existing and (not modules or any(q.library is not library for q in existing.values())):
        theirs = {q.library.name for q in existing.values()}
        more = (
            f"; backend={MODELOPT!r} adds those of {shorten_list(treated)}" if treated and theirs == {MODELOPT} else ""
        )
        raise TorchError(f"the model already contains quantizers: link and calibrate it{more}")
    if config.operators and example is None:
        raise TorchError("functional operators are found by running the model: give an example input")
    ignored = {
        first[every[n]] for n in select_modules(every, _modules_alone(config.ignore, every_module, every), "ignore")
    }
    selected = [
        (entry, {first[every[n]] for n in select_modules(every, entry.modules, "layers")}) for entry in config.layers
    ]
    specs = {
        path: specs_for(config, [e for e, paths in selected if path in paths])
        for path in modules
        if path not in ignored
    }
    if backend == MODELOPT:
        done = _quantize_by_modelopt(model, config, example, modules, treated, specs, extended)
        remember(model, config=config.plain(every, every_module))
        return replace(done, reasons=reasons)
    parts = {path: _quantizers(path, modules[path], treated.get(path), *found) for path, found in specs.items()}
    before, existing_places = {path: type(modules[path]) for path in parts}, set(places(model))
    for path, children in parts.items():
        convert_module(modules[path], children, treated.get(path))
    left = [n for n, m in model.named_modules() if n not in modules and _resembles_supported(m)]
    used = {path: how.treated_as for path, how in treated.items() if path in parts}
    try:
        inserted = [
            path for entry in config.operators for path in insert_at_operator(model, example, entry, config.input)
        ]
    except TorchError:
        remove_quantizers(model, existing_places)
        for path, kind in before.items():
            _revert(modules[path], kind, parts[path])
        raise
    disable_fast_paths(model)
    remember(model, config=config.plain(every, every_module))
    return Quantized(tuple(parts), tuple(sorted(ignored)), tuple(left), tuple(inserted), used, reasons)


def _modules_alone(choice: Choice, modules: Mapping[str, nn.Module], every: Mapping[str, nn.Module]) -> Choice:
    """A choice without the patterns that match only calls of operators, "layer1.0.add", which `link` reads."""
    if callable(choice) or not choice:
        return choice
    calls = [f"{path}.{operator}".lstrip(".") for path in modules for operator in CALLED]
    return [
        p
        for p in ([choice] if isinstance(choice, str | re.Pattern) else choice)
        if any(matches(path, p) for path in every) or not any(matches(call, p, ancestors=False) for call in calls)
    ]


def _quantize_by_modelopt(
    model: nn.Module,
    config: Config,
    example: Any,
    modules: Mapping[str, nn.Module],
    treated: Mapping[str, Treatment],
    specs: Mapping[str, tuple[Spec, Spec]],
    extended: bool,
) -> Quantized:
    """Quantizes the modules of `specs`, each with the specifications of its input and its weight.

    Args:
        extended: the model has quantizers of the library, which stay as they are.
    """
    library = find_backend(MODELOPT)
    parts: dict[str, dict[bool, Quantizer]] = {
        path: {
            True: weight.quantizer(_checked_axis(path, modules[path], treated.get(path), weight), library),
            False: input.quantizer(None, library),
        }
        for path, (input, weight) in specs.items()
    }
    replaced: tuple[str, ...] = ()
    if not extended:
        convert_by_modelopt(model)
        replaced = place_quantizers(model, parts)
    own = [path for path in treated if path in parts and path not in replaced]
    for path in own:
        names = {True: WEIGHT, False: INPUT} if treated[path].treated_as in WEIGHTED else {False: INPUT}
        treated[path].apply(modules[path], {name: parts[path][weight] for weight, name in names.items()})
    replaced = (*replaced, *own)
    inserted = [path for entry in config.operators for path in insert_at_operator(model, example, entry, config.input)]
    left = [n for n, m in model.named_modules() if n not in modules and _resembles_supported(m)]
    disable_fast_paths(model)
    used = {path: treated[path].treated_as for path in own}
    return Quantized(replaced, tuple(sorted(set(modules) - set(replaced))), tuple(left), tuple(inserted), used)


def quantized_name(module: nn.Module, treated: Mapping[str, Treatment], path: str) -> str:
    """The name of the quantized class of a module, "QuantConv2d", whether it is quantized already or not; that of its
    own class for a module that cannot be quantized.

    Args:
        treated: as `treatments` finds them.
    """
    if isinstance(module, TreatedModule):
        return f"Quant{module.treated_as}"
    if path in treated:
        return f"Quant{treated[path].treated_as}"
    kind = class_of(module)
    return QUANTIZED_CLASSES.get(kind, kind).__name__


def convert_module(module: nn.Module, children: dict[str, nn.Module], treatment: Treatment | None = None) -> None:
    """Converts a module to its quantized class, with these quantizers; a parametrized module stays parametrized."""
    if treatment is not None:
        treatment.apply(module, children)
        return
    quantized_class = QUANTIZED_CLASSES[class_of(module)]
    if is_parametrized(module):  # torch gave it its own class, which computes its parameters
        own = {n: x for n, x in vars(type(module)).items() if n not in ("__dict__", "__weakref__")}
        quantized_class = type(f"Parametrized{quantized_class.__name__}", (quantized_class,), own)
    module.__class__ = quantized_class
    object.__setattr__(module, "_fake_quant", True)
    for name, child in children.items():
        module.add_module(name, child)
    if isinstance(module, qnn.QuantLSTM):
        module.dropout_state, module._data_ptrs = {}, []


def _revert(module: nn.Module, kind: type[nn.Module], children: dict[str, nn.Module]) -> None:
    """Undoes `convert_module`."""
    if isinstance(module, TreatedModule):
        untreat(module)
    module.__class__ = kind
    for name in children:
        delattr(module, name)
    for name in ("_fake_quant", "dropout_state", "_data_ptrs"):
        module.__dict__.pop(name, None)


def _default_axis(module: nn.Module, treatment: Treatment | None) -> int:
    """The axis of the output channels of a module's weight."""
    if treatment is not None:
        return 1 if "Transpose" in treatment.treated_as else 0
    return 1 if issubclass(QUANTIZED_CLASSES.get(class_of(module), type(module)), TRANSPOSED) else 0


def _is_supported(module: nn.Module) -> bool:
    return not getattr(module, "proj_size", 0)  # the library's LSTM has no projections


def _resembles_supported(module: nn.Module) -> bool:
    if isinstance(module, torch.jit.ScriptModule):
        return getattr(module, "original_name", "") in {kind.__name__ for kind in QUANTIZED_CLASSES}
    quantized = isinstance(module, (TreatedModule, *QUANTIZED_CLASSES.values()))
    quantized = quantized or any(isinstance(child, Quantizer) for child in module.children())
    return not quantized and isinstance(module, tuple(QUANTIZED_CLASSES))


def _checked_axis(path: str, module: nn.Module, treatment: Treatment | None, weight: Spec) -> int:
    """The axis of the output channels of a module's weight, if the weight has the axis that is asked for."""
    dimensions = max((p.dim() for p in module.parameters()), default=None)
    if dimensions is not None and isinstance(weight.axis, int) and weight.axis >= dimensions:
        raise TorchError(f"{path}: its weight has {dimensions} dimensions, so it has no axis {weight.axis}")
    return _default_axis(module, treatment)


def _quantizers(path: str, module: Any, treatment: Treatment | None, input: Spec, weight: Spec) -> dict[str, nn.Module]:
    """The quantizers of a module's quantized class, by the library's names."""
    axis = _checked_axis(path, module, treatment, weight)
    try:
        if treatment is not None:
            own: dict[str, nn.Module] = {f"_{INPUT}": input.quantizer(None)}
            return own | ({f"_{WEIGHT}": weight.quantizer(axis)} if treatment.treated_as in WEIGHTED else {})
        quantized_class = QUANTIZED_CLASSES[class_of(module)]
        if issubclass(quantized_class, qnn.QuantLSTM):
            count = module.num_layers * (2 if module.bidirectional else 1)
            return {
                "_input_quantizers": nn.ModuleList(input.quantizer(None) for _ in range(count)),
                "_weight_quantizers": nn.ModuleList(weight.quantizer(0) for _ in range(count)),
            }
        found: dict[str, nn.Module] = {"_input_quantizer": input.quantizer(None)}
        if getattr(module, "weight", None) is not None or hasattr(module, "weight_ih"):
            found["_weight_quantizer"] = weight.quantizer(axis)
        return found
    except TorchError as error:
        raise TorchError(f"{path}: {error}") from error
