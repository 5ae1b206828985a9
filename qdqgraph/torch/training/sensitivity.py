"""`sensitivity`: what each layer's quantization costs, by switching layers off one at a time, or on one at a time.

Layers whose quantizers are shared are one unit: a quantizer that is off is off for all of them. Units are known by
their paths, exactly, never by parts of names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from ...errors import TorchError
from ...model.files import write_text
from ...rulekit.rule import Rule
from ..linking.link import Linked, link
from ..quantizer.quantizer import Quantizer, paths, quantizers, settled
from .state import digest

QUANTIZER = re.compile(r"\._(input\d*|weight)_quantizers?(\.\d+)?$")
"""How the library names the quantizers of a module."""
Direction = Literal["disable", "enable"]
Evaluate = Callable[[nn.Module], float]
"""Scores a model; more is better."""


@dataclass(frozen=True)
class Unit:
    """Layers, or blocks, that are switched together.

    Attributes:
        name: the first layer's path; layers: all of them.
        score: the model's score with the unit switched.
        cost: what its quantization costs: the score gained by switching it off, or lost by switching it on alone.
    """

    name: str
    layers: tuple[str, ...]
    score: float
    cost: float


@dataclass(frozen=True)
class Sensitivity:
    """Scores of a model with single units switched.

    Attributes:
        direction: "disable": all on but one; "enable": all off but one.
        model: digest of the model's weights and amax, 16 hexadecimal digits.
        quantized: the score with every unit on; unquantized: with every unit off.
        units: the most expensive first.
        weights: digest of the weights alone, which are known before calibration; "" in a file that lacks it.
    """

    direction: Direction
    model: str
    quantized: float
    unquantized: float
    units: tuple[Unit, ...]
    weights: str = ""

    def to_json(self) -> str:
        """The result as JSON."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Sensitivity:
        """Reads a result.

        Raises:
            TorchError: it is none.
        """
        try:
            data = json.loads(text)
            units = [Unit(u["name"], tuple(u["layers"]), float(u["score"]), float(u["cost"])) for u in data["units"]]
            scores = float(data["quantized"]), float(data["unquantized"])
            return cls(data["direction"], str(data["model"]), *scores, tuple(units), str(data.get("weights", "")))
        except (ValueError, KeyError, TypeError) as error:
            raise TorchError(f"this is no sensitivity result: {type(error).__name__}: {error}") from error

    @classmethod
    def read(cls, path: Path) -> Sensitivity:
        """Reads a result's file.

        Raises:
            TorchError: it cannot be read, or holds none.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise TorchError(f"{path}: cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise TorchError(f"{path}: this is no sensitivity result: it is no UTF-8 text") from error
        except TorchError as error:
            raise TorchError(f"{path}: {error}") from error

    def to_csv(self) -> str:
        """Rank, unit, score and cost, one unit a line."""
        lines = ["rank,unit,layers,score,cost"]
        for rank, u in enumerate(self.units, start=1):
            lines.append(f"{rank},{u.name},{' '.join(u.layers)},{u.score!r},{u.cost!r}")
        return "\n".join(lines) + "\n"


def layer_of(path: str) -> str:
    """The layer that a quantizer belongs to: the module or the functional call that holds it."""
    return QUANTIZER.sub("", path)


def units(model: nn.Module, blocks: Sequence[str] | None = None) -> dict[tuple[str, ...], tuple[Quantizer, ...]]:
    """The enabled quantizers by unit: the layers that share quantizers with each other, directly or through others.

    Args:
        blocks: paths of modules whose layers are one unit each; None: each layer by itself.

    Raises:
        TorchError: there is no module at a path, or no enabled quantizer inside that is not an earlier path's.
    """
    modules = dict(model.named_modules())
    for block in blocks or ():
        if block not in modules:
            raise TorchError(f"there is no module {block!r} to take for a block")
    members: dict[str, set[str]] = {}
    held: dict[str, dict[int, Quantizer]] = {}
    for path, quantizer in paths(model).items():
        if quantizer._disabled:
            continue
        layer = layer_of(path)
        owner = next((b for b in blocks or () if layer == b or layer.startswith(f"{b}.")), layer)
        members.setdefault(owner, set()).add(layer)
        held.setdefault(owner, {})[id(quantizer)] = quantizer
    empty = [block for block in blocks or () if block not in held]
    if empty:
        raise TorchError(f"there is no enabled quantizer in {empty[0]!r} that could be switched")
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


def sensitivity(
    model: nn.Module,
    evaluate: Evaluate,
    *,
    direction: Direction = "disable",
    blocks: Sequence[str] | None = None,
    file: Path | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Sensitivity:
    """Scores a calibrated model with each unit switched off, or on, by itself.

    Args:
        model: calibrated; every quantizer that was on is on again afterwards.
        evaluate: scores the model, in whatever mode it leaves it; more is better. Costs are in units of this score.
        direction: "disable": all on but one; "enable": all off but one.
        blocks: paths of modules to be switched as a whole; None: each layer by itself.
        file: JSON that is written after each unit, and read again where it is there: an interrupted run goes on. The
            model must be the same to the bit: where data are shuffled, save its state before and load it again.
        progress: called with one line a unit.

    Raises:
        TorchError: the model holds no enabled quantizers, a block has none or is no module, or `file` holds no ranking
            or one of another model, direction or other units.
        ModelError: `file` cannot be written.
    """
    groups = units(model, blocks)
    if not groups:
        raise TorchError("the model holds no enabled quantizers: quantize and calibrate it first")
    every = {id(q): q for found in groups.values() for q in found}
    own_digest, weights = digest(model.state_dict()), digest(model.state_dict(), amax=False)
    done = None
    if file is not None and file.exists():
        done = continued(model, file, direction, blocks)
        if done.model != own_digest:
            raise TorchError(_other(file))
    if done is None:
        with _switched(model, every.values(), off=every.values()):
            unquantized = evaluate(model)
        with _switched(model, every.values(), off=()):
            done = Sensitivity(direction, own_digest, evaluate(model), unquantized, (), weights)
    for layers, own in groups.items():
        if any(u.layers == layers for u in done.units):
            continue
        ids = {id(q) for q in own}
        off = own if direction == "disable" else [q for q in every.values() if id(q) not in ids]
        with _switched(model, every.values(), off=off):
            score = evaluate(model)
        cost = score - done.quantized if direction == "disable" else done.unquantized - score
        ranked = sorted((*done.units, Unit(layers[0], layers, score, cost)), key=lambda u: (-u.cost, u.name))
        done = replace(done, units=tuple(ranked))
        progress(f"{layers[0]}: {score:.6g}")
        if file is not None:
            write_text(done.to_json(), file, force=True)
    return done


def continued(model: nn.Module, file: Path, direction: Direction, blocks: Sequence[str] | None = None) -> Sensitivity:
    """The result that a run of `sensitivity` is to go on with; whether amax agrees is known when it is calibrated.

    Raises:
        TorchError: the file holds none, or one of another direction, of other weights or of other units.
    """
    done = Sensitivity.read(file)
    if done.direction != direction:
        raise TorchError(f"{file}: this is a ranking by direction {done.direction!r}: remove it, or write elsewhere")
    if done.weights not in ("", digest(model.state_dict(), amax=False)):
        raise TorchError(_other(file))
    if {u.layers for u in done.units} - set(units(model, blocks)):
        raise TorchError(f"{file}: this is the result of another run: remove it, or write elsewhere")
    return done


def _other(file: Path) -> str:
    return (
        f"{file}: this ranks a model with other weights or amax: remove it or write elsewhere; to go on with a run "
        "that was stopped, begin with the same saved state"
    )


@contextmanager
def _switched(model: nn.Module, every: Iterable[Quantizer], off: Iterable[Quantizer]) -> Iterator[None]:
    """Quantizers off for a while; all of `every` are on again afterwards."""
    try:
        for quantizer in off:
            quantizer.disable()
        with settled(model):
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
    """Switches the quantization of the most expensive units off, in place.

    Args:
        result: of `sensitivity`, of this network.
        top: how many units, 0 or more.
        budget: instead, as many as it takes until the costs that remain add up to at most this much, 0 or more, in the
            units of the score.
        example: an input, a tuple of inputs, or a mapping of keyword arguments, as the model is exported with:
            the model is linked again, as fewer quantizers have other needs. Calibrate it afterwards. None: do not link.
        rules, dynamo, opset: what linking looks for, and in which exporter's graph, as in `link`.

    Returns:
        The layers that were switched off, and what linking did.

    Raises:
        TorchError: neither or both of `top` and `budget` are given, one is out of its range, the model holds no enabled
            quantizers, a unit is none of its units, or linking fails as in `link`.
    """
    if (top is None) == (budget is None):
        raise TorchError("say either how many units to switch off (top) or what may remain (budget)")
    if top is not None and top < 0:
        raise TorchError(f"top {top}: write how many units to switch off, 0 or more")
    if budget is not None and not budget >= 0:
        raise TorchError(f"budget {budget}: write the cost that may remain, 0 or more")
    by_layer: dict[str, set[int]] = {}
    found = {id(q): q for q in quantizers(model).values()}
    for path, quantizer in paths(model).items():
        by_layer.setdefault(layer_of(path), set()).add(id(quantizer))
    layers = chosen_layers(model, result, top=top, budget=budget)
    if not units(model):
        raise TorchError("the model holds no enabled quantizers")
    for layer in layers:
        for number in by_layer[layer]:
            found[number].disable()
    linked = link(model, example, rules, dynamo=dynamo, opset=opset) if example is not None and units(model) else None
    return layers, linked


def chosen_layers(
    model: nn.Module, result: Sensitivity, *, top: int | None = None, budget: float | None = None
) -> tuple[str, ...]:
    """The model's layers that `apply_sensitivity` switches off: those of the chosen units, themselves or by a block.

    Raises:
        TorchError: a unit is none of the model's.
    """
    known = list(dict.fromkeys(map(layer_of, paths(model))))
    found: list[str] = []
    for unit in result.units[:top] if budget is None else _over(result.units, budget):
        inside = [n for n in known for layer in unit.layers if n == layer or n.startswith(f"{layer}.")]
        if not inside:
            raise TorchError(f"the model has no quantized layer {unit.name!r}: the result is another network's")
        found += inside
    return tuple(found)


def _over(ranked: Sequence[Unit], budget: float) -> list[Unit]:
    """The first units, so that the rest costs at most the budget; units that cost nothing are never among them."""
    costly = [u for u in ranked if u.cost > 0]
    rest = sum(u.cost for u in costly)
    chosen = []
    for unit in costly:
        if rest <= budget:
            break
        chosen.append(unit)
        rest -= unit.cost
    return chosen
