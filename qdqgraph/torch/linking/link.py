"""`link`: lets the graph rules tie a model's quantizers, add those that are missing, and disable those that prevent a
fusion.

The rules repair a temporary export (`probe`). Inputs that the repaired graph reads through one scale share one
quantizer in the model, so calibration measures their union; an input that it reads through a new pair gets a quantizer;
a quantizer that it no longer reads is disabled. The solver returns complete groups: pairwise sharing, (A, B) and then
(C, A), would leave B with A's old quantizer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ...errors import RuleError, TorchError
from ...graph.components import components
from ...graph.graph import Graph, Node, label
from ...graph.pair import pairs
from ...graph.selectors import quantizer_path
from ...proposals.proposal import NodeInput, PlacePair
from ...repair.options import Options
from ...repair.repair import Repair
from ...repair.rounds import fix
from ...rulekit import catalog
from ...rulekit.finding import Finding, Severity
from ...rulekit.rule import Rule
from ..calls.functional import Place
from ..calls.places import insert_quantizer
from ..calls.treated import WEIGHTED
from ..exporting.export import shorten_list
from ..quantizer.backend import MODELOPT
from ..quantizer.fast_paths import disable_fast_paths
from ..quantizer.provenance import provenance
from ..quantizer.quantizer import Quantizer, backend_of, parent_module, quantizer_paths, quantizers
from .floats import functions_in_float
from .probe import Probe, probe, scale_of

ROUNDS = 10
"""At most this many rounds of adding quantizers. A network needs two: the first adds all pairs that findings
request, the second finds the scales that the new pairs make unequal."""
WEIGHTED_CLASSES = tuple(getattr(nn.modules, name) for name in sorted(WEIGHTED))
"""The layers of torch that have weights; those in torch.nn.modules: libraries patch those in torch.nn."""
NO_GUARD = Options(max_bits_lost=math.inf)
"""No guard: the probe's scales say nothing about ranges. Calibration measures the union of a group."""


@dataclass(frozen=True)
class Linked:
    """What `link` did, by quantizer path.

    Attributes:
        groups: paths of quantizers that share one, each group in the model's order.
        added: new quantizers, at functional operators.
        disabled: quantizers that prevented a fusion.
        unmapped: inputs that the repaired graph reads quantized but no quantizer can be added for, one message each;
            one message for a quantized LSTM, whose gates stay in float, and one for all subclasses that Model Optimizer
            leaves in float.
        left: findings that remain on the probe, refused or without a repair.
        in_float: modules, other than layers, whose own forward computes convolutions, matrix products or GRUs in float,
            one message each: weights that are passed to functions, and products for which no rule requests pairs.
    """

    groups: tuple[tuple[str, ...], ...]
    added: tuple[str, ...]
    disabled: tuple[str, ...]
    unmapped: tuple[str, ...]
    left: tuple[Finding, ...]
    in_float: tuple[str, ...] = ()


def link(
    model: nn.Module,
    example: Any,
    rules: Sequence[Rule] | None = None,
    *,
    dynamo: bool = False,
    add: bool = True,
    opset: int | None = None,
) -> Linked:
    """Ties a quantized model's quantizers in place. Calibrate afterwards: ties discard amax.

    Args:
        model: quantized, on any device, in any floating-point type.
        example: an input, a tuple of inputs, or a mapping of keyword arguments, as for `export`.
        rules: None: the built-in rules and those of installed packs. Rules with severity error are not used: they apply
            to files, not to quantizers.
        dynamo: use the dynamo exporter's graph instead of the TorchScript exporter's.
        add: insert quantizers where a finding requests a pair; False: only tie.
        opset: the opset of the export; exporters write some operators only in later opsets.

    Raises:
        TorchError: the model contains no quantizers or has tensors on the meta device, the example contains no tensor,
            torch cannot export the model, the exporter does not write the opset, or onnxscript is missing, which the
            dynamo exporter needs.
        RuleError: a rule crashed, or ties a quantizer that neither the model has nor a rule adds.
    """
    if not quantizers(model):
        raise TorchError(
            "the model contains no quantizers: quantize it first; if that replaced nothing, no module can be quantized"
        )
    disable_fast_paths(model)
    used = [r for r in (catalog.load() if rules is None else rules) if r.severity is not Severity.ERROR]
    probed = _probed(model, example, dynamo=dynamo, opset=opset)
    if add and len(unnamed := _matching(used, probed)) < len(used):
        return _link_twice(model, example, unnamed, used, dynamo=dynamo, opset=opset)
    return _linked(model, example, probed, used, dynamo=dynamo, add=add, opset=opset)


def _probed(model: nn.Module, example: Any, *, dynamo: bool, opset: int | None, entries: Collection[str] = ()) -> Probe:
    """The probe of a model, without places at the calls that its configuration ignores."""
    ignore = (provenance(model).config or {}).get("ignore", ())
    return probe(model, example, dynamo=dynamo, entries=entries, opset=opset, ignore=ignore)


def _linked(
    model: nn.Module, example: Any, probed: Probe, used: Sequence[Rule], *, dynamo: bool, add: bool, opset: int | None
) -> Linked:
    backend = backend_of(model)
    unknown = _unknown_subclasses(model)
    recurrent = {
        path: f"the gates of {path} ({type(module).__name__}) stay in float: {backend.name} quantizes only the inputs "
        "of its matrix products"
        for path, module in model.named_modules()
        if isinstance(module, backend.recurrent)
    }
    repair, missing = _repair(probed, used, add)
    demands = _Demands.of(probed, repair, recurrent)
    if probed.opaque and add and (missing or demands.unmapped):
        probed = _probed(model, example, dynamo=dynamo, entries=probed.opaque, opset=opset)
        repair, _ = _repair(probed, used, add)
        demands = _Demands.of(probed, repair, recurrent)
    return _change_model(model, replace(demands, unmapped=(*demands.unmapped, *unknown)), repair, add)


def _unknown_subclasses(model: nn.Module) -> tuple[str, ...]:
    """A message for the layers of a model quantized by Model Optimizer itself that the library leaves in float: it
    converts subclasses only if they have the forward of their base class.

    Source: `_DMRegistryCls._get_registered_nn_class` in modelopt/torch/opt/dynamic.py, 0.47.
    """
    if backend_of(model).name != MODELOPT or provenance(model).config is not None:
        return ()
    found = [
        f"{path} ({type(module).__name__})"
        for path, module in model.named_modules()
        if isinstance(module, WEIGHTED_CLASSES)
        and type(module) not in WEIGHTED_CLASSES
        and not any(isinstance(child, Quantizer) for child in module.children())
    ]
    if not found:
        return ()
    return (
        f"{shorten_list(found)} stay in float: Model Optimizer does not convert classes with a forward of their own; "
        f"quantize(model, backend={MODELOPT!r}) before link adds their quantizers",
    )


def _matching(rules: Sequence[Rule], probed: Probe) -> list[Rule]:
    """The rules whose ties by name match the model as it is."""
    graph, found = Graph(probed.with_places(())), []
    for rule in rules:
        try:
            rule.resolved(graph)
        except RuleError:
            continue
        found.append(rule)
    return found


def _link_twice(
    model: nn.Module, example: Any, first: Sequence[Rule], rules: Sequence[Rule], *, dynamo: bool, opset: int | None
) -> Linked:
    """Links for rules that name quantizers which the others add: with these first, and then with all.

    Raises:
        RuleError: a name matches nothing even then; the model is as linked by the rules of `first`.
    """
    probed = _probed(model, example, dynamo=dynamo, opset=opset)
    before = _linked(model, example, probed, first, dynamo=dynamo, add=True, opset=opset)
    for path in before.disabled:  # a tie may name it, and the second run disables it again
        quantizer_paths(model)[path].enable()
    probed = _probed(model, example, dynamo=dynamo, opset=opset)
    after = _linked(model, example, probed, rules, dynamo=dynamo, add=True, opset=opset)
    order = {path: number for number, path in enumerate(quantizer_paths(model))}
    groups = [map(str, group) for group in _joined([*before.groups, *after.groups])]
    return replace(
        after,
        groups=tuple(tuple(sorted(group, key=lambda path: order[path])) for group in groups),
        added=(*before.added, *after.added),
    )


def _repair(probed: Probe, rules: Sequence[Rule], add: bool) -> tuple[Repair, bool]:
    """The repair of the probe with a quantizer at each place where a finding requests one, and whether a finding
    requests one where there is no place."""
    wanted: set[Place] = set()
    missing = False
    for _ in range(ROUNDS):
        repair = fix(probed.with_places(wanted), rules, NO_GUARD)
        readers = {r for f in repair.left if add for r in _unscaled_readers(f)}
        missing = missing or bool(readers - probed.place_of_reader.keys())
        requested = {probed.place_of_reader[r] for r in readers if r in probed.place_of_reader} - wanted
        if not requested:
            break
        wanted |= requested
    return repair, missing


def _unscaled_readers(finding: Finding) -> Iterable[NodeInput]:
    """The node inputs at which a finding requests a pair whose scale the graph does not contain."""
    return (reader for edit in finding.edits if isinstance(edit, PlacePair) for reader in edit.readers)


@dataclass(frozen=True)
class _Demands:
    """The quantizers that the repaired graph requires of the model.

    Attributes:
        groups: for each scale of the repaired graph the quantizers and places whose readers use it.
        unread: quantizers without a reader in the repaired graph.
        moved: by place, the unread quantizers whose pair moved there.
        unmapped: see `Linked`.
    """

    groups: Mapping[float, list[str | Place]]
    unread: tuple[str, ...]
    moved: Mapping[Place, str]
    unmapped: tuple[str, ...]

    @classmethod
    def of(cls, probed: Probe, repair: Repair, recurrent: Mapping[str, str]) -> _Demands:
        """The demands of a repaired probe.

        Args:
            recurrent: messages about the gates of the model's recurrent layers, by their paths.
        """
        graph = Graph(repair.model)
        owners: dict[str | Place, set[float]] = {path: set() for path in probed.quantizer_of_reader.values()}
        unmapped: dict[str, None] = {}
        for node in graph.nodes():
            for index, tensor in enumerate(node.inputs):
                pair = pairs(graph).made(tensor.name)
                if pair is None or pair.kind != "activation" or node.op in ("QuantizeLinear", "DequantizeLinear"):
                    continue
                reader = (str(node.outputs[0].name), index)
                owner = (
                    probed.quantizer_of_reader.get(reader)
                    or probed.place_of_reader.get(reader)
                    or probed.place_of_named_node.get((node.name, index))
                )
                if owner is None:
                    missing = f"input {index} of {label(node)} ({node.op}) should read '{pair.tensor}' quantized"
                    unmapped[_gate_message(graph, node, recurrent) or missing] = None
                else:
                    owners.setdefault(owner, set()).add(scale_of(pair))
        found = (graph.producer(finding.place) for finding in repair.left)
        unmapped |= {gates: None for node in found if node and (gates := _gate_message(graph, node, recurrent))}
        groups: dict[float, list[str | Place]] = {}
        for owner, scales in owners.items():
            for scale in scales:
                groups.setdefault(scale, []).append(owner)
        unread = tuple(str(o) for o, scales in owners.items() if not scales)
        own = {scale: path for scale, path in probed.quantizers.items() if path in unread}
        moved = {m: own[s] for s, members in groups.items() if s in own for m in members if isinstance(m, Place)}
        return cls(groups, unread, moved, tuple(unmapped))


def _gate_message(graph: Graph, node: Node, recurrent: Mapping[str, str]) -> str:
    """The message for a node inside a recurrent layer; "" for another node."""
    inside = f"{quantizer_path(graph, node)}."
    layer = next((path for path in recurrent if inside.startswith(f"{path}.")), None)
    return "" if layer is None else recurrent[layer]


def _change_model(model: nn.Module, demands: _Demands, repair: Repair, add: bool) -> Linked:
    """Ties, inserts and disables quantizers as the repaired graph demands."""
    joined = _joined([*demands.groups.values()])
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
            moved = found[demands.moved[where]] if where in demands.moved else None
            copied = copy.deepcopy(moved) if shared is None and moved is not None else shared
            path = insert_quantizer(model, where, copied)
            shared = shared or quantizers(model)[path]
            fresh.append(path)
        for path in known[1:]:
            _replace_everywhere(model, found[path], found[known[0]])
        if shared is not None and (fresh or any(found[path] is not shared for path in known)):
            shared.set_amax(None)  # it was calibrated on only some of its inputs
        added += fresh
        if len(known) + len(fresh) > 1:
            groups.append((*known, *fresh))
    for path in demands.unread:
        found[path].disable()
    in_float = functions_in_float(model, Graph(repair.model))
    return Linked(tuple(groups), tuple(added), demands.unread, demands.unmapped, repair.left, in_float)


def _joined(groups: Sequence[Collection[str | Place]]) -> list[set[str | Place]]:
    """Groups as disjoint sets: a quantizer of a module that is used twice joins the groups of both uses.

    The sets are ordered by the last group in each.
    """
    found = sorted(components(groups), key=lambda indexes: indexes[-1])
    return [{member for index in indexes for member in groups[index]} for indexes in found]


def _replace_everywhere(model: nn.Module, old: Quantizer, new: Quantizer) -> None:
    """Puts one quantizer at every path of another."""
    if old is new:
        return
    for path, quantizer in quantizer_paths(model).items():
        if quantizer is old:
            holder, name = parent_module(model, path)
            old.library.put(holder, name, new)


def tie(model: nn.Module, groups: Iterable[Sequence[str]]) -> None:
    """Lets the paths of each group share the group's first quantizer, in place; that one keeps its amax.

    Raises:
        TorchError: there is no quantizer at a path.
    """
    for group in groups:
        known = quantizer_paths(model)
        missing = [path for path in group if path not in known]
        if missing:
            raise TorchError(f"there is no quantizer {missing[0]!r} in the model")
        for path in group[1:]:
            _replace_everywhere(model, quantizer_paths(model)[path], quantizer_paths(model)[group[0]])


__all__ = ["Linked", "link", "tie"]
