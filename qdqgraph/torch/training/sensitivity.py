"""`sensitivity`: the cost of each layer's quantization, measured by disabling, or enabling, one layer at a time.

Layers that share a quantizer are one unit: a disabled quantizer is disabled for all of them. Units are identified by
their whole paths.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ...errors import TorchError
from ...log import Progress, log_step
from ...model.writing.texts import write_text
from ...rulekit.rule import Rule
from ..linking.link import Linked, link
from ..quantizer.quantizer import Quantizer, isolated_run, quantizer_paths, quantizers
from .digest import state_digest
from .ranking import Direction, Sensitivity, Unit

Evaluate = Callable[[nn.Module], float]
"""Scores a model; higher is better."""


def units(model: nn.Module, blocks: Sequence[str] | None = None) -> dict[tuple[str, ...], tuple[Quantizer, ...]]:
    """The enabled quantizers by the paths of their unit: layers that share quantizers, directly or through other
    layers.

    Args:
        blocks: paths of modules whose layers are one unit each, or globs: each module or functional call that one
            matches is a block, unless it is inside another. None: each layer is one.

    Raises:
        TorchError: there is no module at a path, or it contains no enabled quantizer outside earlier blocks.
    """
    blocks = _expanded(model, blocks or ())
    held: dict[str, dict[int, Quantizer]] = {}
    for path, quantizer in quantizer_paths(model).items():
        if quantizer._disabled:
            continue
        layer = quantizer.library.layer_of(path)
        owner = next((b for b in blocks if layer == b or layer.startswith(f"{b}.")), layer)
        held.setdefault(owner, {})[id(quantizer)] = quantizer
    empty = [block for block in blocks if block not in held]
    if empty:
        raise TorchError(f"{empty[0]!r} contains no enabled quantizer outside earlier blocks")
    groups: list[tuple[list[str], dict[int, Quantizer]]] = []
    for owner, own in held.items():
        names, merged = [owner], dict(own)
        apart = []
        for group in groups:
            if group[1].keys() & merged.keys():
                names, merged = [*group[0], *names], {**group[1], **merged}
            else:
                apart.append(group)
        groups = [*apart, (names, merged)]
    return {tuple(names): tuple(found.values()) for names, found in groups}


def _expanded(model: nn.Module, blocks: Sequence[str]) -> list[str]:
    """The paths of blocks, with each glob replaced by the outermost modules and calls with quantizers that it matches.

    Raises:
        TorchError: there is no such module.
    """
    modules = dict(model.named_modules())
    enabled = {p: q for p, q in quantizer_paths(model).items() if not q._disabled}
    layers = {q.library.layer_of(path) for path, q in enabled.items()}
    candidates = [p for p in (*modules, *layers) if p and any(n == p or n.startswith(f"{p}.") for n in layers)]
    found: list[str] = []
    for block in blocks:
        matching = [block] if block in modules else sorted({p for p in candidates if fnmatch.fnmatchcase(p, block)})
        if not matching:
            raise TorchError(f"there is no module {block!r} to use as a block")
        found += [p for p in matching if not any(p != q and p.startswith(f"{q}.") for q in matching)]
    return list(dict.fromkeys(found))


def sensitivity(
    model: nn.Module,
    evaluate: Evaluate,
    *,
    direction: Direction = "disable",
    blocks: Sequence[str] | None = None,
    file: Path | None = None,
    progress: Progress = log_step,
) -> Sensitivity:
    """Scores a calibrated model once for each unit, with that unit disabled, or only that unit enabled.

    Args:
        model: calibrated; the same quantizers are enabled afterwards.
        evaluate: scores the model; higher is better. It sets the mode of the model as needed.
        direction: "disable": all enabled except one; "enable": all disabled except one.
        blocks: paths of modules to be switched as a whole; None: each layer by itself.
        file: JSON that is written after each unit. An existing one is continued if the model is bit-identical: with
            shuffled data, save the model's state and load it again.
        progress: called with one line per unit.

    Raises:
        TorchError: the model contains no enabled quantizers, a block is not a module or contains none, or `file` is not
            a ranking, or a ranking of another model, direction or other units.
        ModelError: `file` cannot be written.
    """
    groups = units(model, blocks)
    if not groups:
        raise TorchError("the model contains no enabled quantizers: quantize and calibrate it first")
    every = {id(q): q for found in groups.values() for q in found}
    own_digest, weights = state_digest(model.state_dict()), state_digest(model.state_dict(), amax=False)
    done = None
    if file is not None and file.exists():
        done = read_continued(model, file, direction, blocks)
        if done.model != own_digest:
            raise TorchError(_other_model(file))
    if done is None:
        with _disabled_in_block(model, every.values(), off=every.values()):
            unquantized = evaluate(model)
        with _disabled_in_block(model, every.values(), off=()):
            done = Sensitivity(direction, own_digest, evaluate(model), unquantized, (), weights)
    for layers, own in groups.items():
        if any(u.layers == layers for u in done.units):
            continue
        ids = {id(q) for q in own}
        off = own if direction == "disable" else [q for q in every.values() if id(q) not in ids]
        with _disabled_in_block(model, every.values(), off=off):
            score = evaluate(model)
        cost = score - done.quantized if direction == "disable" else done.unquantized - score
        ranked = sorted((*done.units, Unit(layers[0], layers, score, cost)), key=lambda u: (-u.cost, u.name))
        done = replace(done, units=tuple(ranked))
        progress(f"{layers[0]}: {score:.6g}")
        if file is not None:
            write_text(done.to_json(), file, force=True)
    return done


def read_continued(
    model: nn.Module, file: Path, direction: Direction, blocks: Sequence[str] | None = None
) -> Sensitivity:
    """The ranking that a run of `sensitivity` continues; the model need not be calibrated: amax is not compared.

    Raises:
        TorchError: the file is not a ranking, or has another direction, other weights or other units.
    """
    done = Sensitivity.read(file)
    if done.direction != direction:
        raise TorchError(f"{file}: this is a ranking by direction {done.direction!r}: remove it, or write elsewhere")
    if done.weights not in ("", state_digest(model.state_dict(), amax=False)):
        raise TorchError(_other_model(file))
    if {u.layers for u in done.units} - set(units(model, blocks)):
        raise TorchError(f"{file}: this is the result of another run: remove it, or write elsewhere")
    return done


def _other_model(file: Path) -> str:
    return (
        f"{file}: this ranks a model with other weights or amax: remove it or write elsewhere; to continue an "
        "interrupted run, start from the same saved state"
    )


@contextmanager
def _disabled_in_block(model: nn.Module, every: Iterable[Quantizer], off: Iterable[Quantizer]) -> Iterator[None]:
    """Disables the quantizers of `off` until the block ends; then all of `every` are enabled."""
    try:
        for quantizer in off:
            quantizer.disable()
        with isolated_run(model):
            yield
    finally:
        for quantizer in every:
            quantizer.enable()


def apply_sensitivity(
    model: nn.Module,
    result: Sensitivity,
    *,
    top: int | None = None,
    budget: float | None = None,
    example: Any = None,
    rules: Sequence[Rule] | None = None,
    dynamo: bool = False,
    opset: int | None = None,
) -> tuple[tuple[str, ...], Linked | None]:
    """Disables the quantizers of the most expensive units, in place.

    Args:
        result: what `sensitivity` returned for this network.
        top: how many units, 0 or more.
        budget: instead, as many as needed, so that the remaining costs add up to at most this, 0 or more, in units of
            the score.
        example: an input, a tuple of inputs, or a mapping of keyword arguments, as for `export`:
            the model is linked again, because the ties differ without those quantizers. Calibrate it afterwards. None:
            do not link.
        rules, dynamo, opset: as in `link`.

    Returns:
        The layers whose quantizers were disabled, and the result of linking.

    Raises:
        TorchError: neither or both of `top` and `budget` are given, one is out of its range, the model contains no
            enabled quantizers or lacks a unit, or linking fails as in `link`.
    """
    refuse_amount(top, budget)
    by_layer: dict[str, set[int]] = {}
    found = {id(q): q for q in quantizers(model).values()}
    for path, quantizer in quantizer_paths(model).items():
        by_layer.setdefault(quantizer.library.layer_of(path), set()).add(id(quantizer))
    layers = layers_to_disable(model, result, top=top, budget=budget)
    if not units(model):
        raise TorchError("the model contains no enabled quantizers")
    for layer in layers:
        for number in by_layer[layer]:
            found[number].disable()
    linked = link(model, example, rules, dynamo=dynamo, opset=opset) if example is not None and units(model) else None
    return layers, linked


def refuse_amount(top: int | None, budget: float | None) -> None:
    """Refuses arguments that do not define how many units `apply_sensitivity` disables.

    Raises:
        TorchError: neither or both are given, or one is out of its range.
    """
    if (top is None) == (budget is None):
        raise TorchError("give either the number of units to disable (top) or the cost that may remain (budget)")
    if top is not None and top < 0:
        raise TorchError(f"top {top}: give the number of units to disable, 0 or more")
    if budget is not None and not budget >= 0:
        raise TorchError(f"budget {budget}: give the cost that may remain, 0 or more")


def layers_to_disable(
    model: nn.Module, result: Sensitivity, *, top: int | None = None, budget: float | None = None
) -> tuple[str, ...]:
    """The model's layers that `apply_sensitivity` disables: those of the most expensive units, and those inside units
    that are blocks.

    Raises:
        TorchError: the model has no such unit.
    """
    known = list(dict.fromkeys(q.library.layer_of(path) for path, q in quantizer_paths(model).items()))
    found: list[str] = []
    for unit in result.units[:top] if budget is None else _units_over_budget(result.units, budget):
        inside = [n for n in known for layer in unit.layers if n == layer or n.startswith(f"{layer}.")]
        if not inside:
            raise TorchError(f"the model has no quantized layer {unit.name!r}: the result belongs to another network")
        found += inside
    return tuple(found)


def _units_over_budget(ranked: Sequence[Unit], budget: float) -> list[Unit]:
    """As many of the first units as needed, so that the others cost at most the budget; only units with a cost."""
    costly = [u for u in ranked if u.cost > 0]
    rest = sum(u.cost for u in costly)
    found = []
    for unit in costly:
        if rest <= budget:
            break
        found.append(unit)
        rest -= unit.cost
    return found
