"""`link`: lets the graph rules tie a model's quantizers, add those that are missing, and switch off those in the way.

The rules run on a throw-away export (`probe`) and repair it. What the repaired graph reads through one scale shares one
quantizer here, so that calibration sees the union; what it reads through a new pair gets a quantizer; what it reads
bare loses its own. Groups are taken whole from the solver: letting pairs share one after the other, as (A, B) then (C,
A), leaves B behind on A's old quantizer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...errors import TorchError
from ...graph.components import components
from ...graph.graph import Graph, Node, label
from ...graph.pair import pairs
from ...graph.selectors import quantizer_path
from ...proposals.proposal import NodeInput, PlacePair
from ...repair.options import Options
from ...repair.rounds import Repair, fix
from ...rulekit import catalog
from ...rulekit.finding import Finding, Severity
from ...rulekit.rule import Rule
from ..calls.functional import Place
from ..calls.places import place
from ..quantizer.quantizer import Quantizer, parent, paths, qnn, quantizers
from .probe import Probe, probe, scale_of

ROUNDS = 10
"""More rounds of new quantizers than any network needs: one adds all, the next sees what their scales reach."""
RECURRENT = (qnn.QuantLSTM, qnn.QuantLSTMCell)
FREE = Options(max_bits_lost=math.inf)
"""The probe's scales say nothing about ranges, so no guard holds here; calibration measures the union instead."""


@dataclass(frozen=True)
class Linked:
    """What `link` did, by quantizer path.

    Attributes:
        groups: paths of quantizers that share one, each group in the model's order.
        added: new quantizers, at functional operators.
        disabled: quantizers that stood in the way of a fusion.
        unmapped: what the graph asks for and no quantizer here can give, one sentence each; of a quantized LSTM, whose
            gates stay in float, one for all.
        left: findings that remain on the probe, refused or without a repair.
    """

    groups: tuple[tuple[str, ...], ...]
    added: tuple[str, ...]
    disabled: tuple[str, ...]
    unmapped: tuple[str, ...]
    left: tuple[Finding, ...]


def link(
    model: nn.Module,
    example: Any,
    rules: Sequence[Rule] | None = None,
    *,
    dynamo: bool = False,
    add: bool = True,
    opset: int | None = None,
) -> Linked:
    """Ties a quantized model's quantizers in place. Calibrate afterwards: ties throw amax away.

    Args:
        model: quantized, on any device, in any floating-point type.
        example: an input, a tuple of inputs, or a mapping of keyword arguments, as the model is exported with.
        rules: what to look for; None: the built-in rules and those of installed packs. Rules of errors are left out:
            they speak of a file, not of quantizers.
        dynamo: look at the dynamo exporter's graph instead of the TorchScript exporter's.
        add: insert quantizers where a finding asks for a pair; False: ties alone.
        opset: as of the export; an exporter writes some operators in later ones alone.

    Raises:
        TorchError: the model holds no quantizers or has tensors on the meta device, the example holds no tensor, torch
            cannot export the model, the exporter does not write the opset, or onnxscript is missing, which the dynamo
            exporter needs.
        RuleError: a rule crashed.
    """
    if not quantizers(model):
        raise TorchError(
            "the model holds no quantizers: quantize it first; where that replaced nothing, no module could be "
            "quantized"
        )
    chosen = [r for r in (catalog.load() if rules is None else rules) if r.severity is not Severity.ERROR]
    recurrent = {n: type(m).__name__ for n, m in model.named_modules() if isinstance(m, RECURRENT)}
    seen = probe(model, example, dynamo=dynamo, opset=opset)
    result, missing = _asked(seen, chosen, add)
    state = _State.of(seen, result, recurrent)
    if seen.opaque and add and (missing or state.unmapped):
        seen = probe(model, example, dynamo=dynamo, entries=seen.opaque, opset=opset)
        result, _ = _asked(seen, chosen, add)
        state = _State.of(seen, result, recurrent)
    return _apply(model, state, result, add)


def _asked(seen: Probe, chosen: Sequence[Rule], add: bool) -> tuple[Repair, bool]:
    """The repair with a quantizer at each place where a finding asks for one, and whether one has no place here."""
    wanted: set[Place] = set()
    missing = False
    for _ in range(ROUNDS):
        # Without pairs of activations a repair has nothing to begin with; the rules then still see the graph's weights.
        result = fix(seen.only(wanted), chosen, FREE)
        readers = {r for f in result.left if add for r in _readers(f)}
        missing = missing or bool(readers - seen.at.keys())
        asked = {seen.at[r] for r in readers if r in seen.at} - wanted
        if not asked:
            break
        wanted |= asked
    return result, missing


def _readers(finding: Finding) -> Iterable[NodeInput]:
    """The node inputs at which a finding asks for a pair whose scale the graph does not hold."""
    return (reader for edit in finding.edits if isinstance(edit, PlacePair) for reader in edit.readers)


@dataclass(frozen=True)
class _State:
    """What the repaired graph asks of the model.

    Attributes:
        groups: for each scale of the repaired graph the quantizers and places that read through it.
        bare: quantizers that nothing is to read through any more.
        moved: of these, the ones whose pair stands at a place now.
        unmapped: see `Linked`.
    """

    groups: Mapping[float, list[str | Place]]
    bare: tuple[str, ...]
    moved: Mapping[Place, str]
    unmapped: tuple[str, ...]

    @classmethod
    def of(cls, seen: Probe, result: Repair, recurrent: Mapping[str, str]) -> _State:
        """What a repaired probe says.

        Args:
            recurrent: classes of the model's recurrent layers by their paths.
        """
        graph = Graph(result.model)
        named = seen.named
        owners: dict[str | Place, set[float]] = {path: set() for path in seen.reads.values()}
        unmapped: dict[str, None] = {}
        for node in graph.nodes():
            for index, tensor in enumerate(node.inputs):
                pair = pairs(graph).made(tensor.name)
                if pair is None or pair.kind != "activation" or node.op in ("QuantizeLinear", "DequantizeLinear"):
                    continue
                reader = (str(node.outputs[0].name), index)
                owner = seen.reads.get(reader) or seen.at.get(reader) or named.get((node.name, index))
                if owner is None:
                    missing = f"input {index} of {label(node)} ({node.op}) should read '{pair.tensor}' quantized"
                    unmapped[_gates(graph, node, recurrent) or missing] = None
                else:
                    owners.setdefault(owner, set()).add(scale_of(pair))
        found = (graph.producer(finding.place) for finding in result.left)
        unmapped |= {gates: None for node in found if node and (gates := _gates(graph, node, recurrent))}
        groups: dict[float, list[str | Place]] = {}
        for owner, scales in owners.items():
            for scale in scales:
                groups.setdefault(scale, []).append(owner)
        bare = tuple(str(o) for o, scales in owners.items() if not scales)
        own = {scale: path for scale, path in seen.quantizers.items() if path in bare}
        moved = {m: own[s] for s, members in groups.items() if s in own for m in members if isinstance(m, Place)}
        return cls(groups, bare, moved, tuple(unmapped))


def _gates(graph: Graph, node: Node, recurrent: Mapping[str, str]) -> str:
    """What is to be said of a node inside of a recurrent layer; "" of another."""
    inside = f"{quantizer_path(graph, node)}."
    layer = next((path for path in recurrent if inside.startswith(f"{path}.")), None)
    if layer is None:
        return ""
    return (
        f"the gates of {layer} ({recurrent[layer]}) stay in float: pytorch-quantization quantizes what its matrix "
        "products read and nothing else"
    )


def _apply(model: nn.Module, state: _State, result: Repair, add: bool) -> Linked:
    joined = _joined([*state.groups.values()])
    added: list[str] = []
    groups: list[tuple[str, ...]] = []
    found = quantizers(model)
    order = {path: i for i, path in enumerate(found)}
    for members in joined:
        known = sorted((m for m in members if isinstance(m, str)), key=lambda m: order[m])
        new = [m for m in members if isinstance(m, Place)] if add else []
        if len(known) + len(new) < 2 and not new:
            continue
        shared = found[known[0]] if known else None
        fresh = []
        for where in sorted(new, key=str):
            like = found[state.moved[where]] if where in state.moved else None
            path = place(model, where, copy.deepcopy(like) if shared is None and like is not None else shared)
            shared = shared or quantizers(model)[path]
            fresh.append(path)
        for path in known[1:]:
            _share(model, found[path], found[known[0]])
        if shared is not None and (fresh or any(found[path] is not shared for path in known)):
            shared.set_amax(None)  # what it was calibrated on is a part of what it reads now
        added += fresh
        if len(known) + len(fresh) > 1:
            groups.append((*known, *fresh))
    for path in state.bare:
        found[path].disable()
    return Linked(tuple(groups), tuple(added), state.bare, state.unmapped, result.left)


def _joined(groups: Sequence[Collection[str | Place]]) -> list[set[str | Place]]:
    """Groups as disjoint sets: a quantizer of a module that is used twice joins what both uses belong to.

    In the order of the last group that each set holds.
    """
    found = sorted(components(groups), key=lambda indexes: indexes[-1])
    return [{member for index in indexes for member in groups[index]} for indexes in found]


def _share(model: nn.Module, old: Quantizer, new: Quantizer) -> None:
    """Puts one quantizer in every place of another."""
    if old is new:
        return
    for path, quantizer in paths(model).items():
        if quantizer is old:
            holder, name = parent(model, path)
            holder._modules[name] = new


def tie(model: nn.Module, groups: Iterable[Sequence[str]]) -> None:
    """Lets the quantizers of each group of paths share its first, in place; the first keeps its amax.

    Raises:
        TorchError: there is no quantizer at a path.
    """
    for group in groups:
        known = paths(model)
        missing = [path for path in group if path not in known]
        if missing:
            raise TorchError(f"there is no quantizer {missing[0]!r} in the model")
        for path in group[1:]:
            _share(model, paths(model)[path], paths(model)[group[0]])


__all__ = ["Linked", "link", "tie"]
