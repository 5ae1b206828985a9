"""Quantizers at functional operators that a configuration names: all adds, the Concats of a neck, the pools of a
class."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...errors import TorchError
from ...graph.blocks import residuals
from ...graph.graph import Graph, key
from ...proposals.proposal import NodeInput
from ..calls.functional import Place
from ..calls.places import place
from ..linking.probe import Probe, probe
from ..quantizer.choice import chosen
from .config import ADD_INPUTS, Operator, Spec


def insert(model: nn.Module, example: Any, entry: Operator, spec: Spec) -> tuple[str, ...]:
    """Puts quantizers at an operator's calls; returns their paths.

    All inputs of a Concat share one quantizer, as TensorRT needs it. Of an add, "skip" is the side that the graph says
    ends in no convolution of the block.

    Raises:
        TorchError: nothing calls the operator there, or `inputs` is no choice for it.
    """
    if entry.inputs not in ADD_INPUTS:
        raise TorchError(f"operators: {entry.operator} has no inputs = {entry.inputs!r}: write {', '.join(ADD_INPUTS)}")
    if entry.inputs != "both" and entry.operator != "add":
        raise TorchError(f"operators: {entry.operator} has no skip; inputs = {entry.inputs!r} is for add")
    seen = probe(model, example)
    modules = dict(model.named_modules())
    meant = chosen(modules, entry.modules, "operators")
    found = [
        p
        for p in seen.places.values()
        if p.call.operator == entry.operator
        and p.module in meant
        and (not entry.classes or type(modules[p.module]).__name__ in entry.classes)
    ]
    if not found:
        known = ", ".join(sorted({p.call.operator for p in seen.places.values()})) or "none"
        raise TorchError(f"operators: nothing there calls {entry.operator!r}; the model calls {known}")
    wanted = _skips(seen, found, entry.inputs) if entry.inputs != "both" else found
    shared = {}
    made = []
    for where in wanted:
        owner = (where.module, where.call) if entry.operator in ("cat", "concat", "concatenate", "stack") else where
        if owner not in shared:
            shared[owner] = spec.quantizer(None)
        made.append(place(model, where, shared[owner]))
    return tuple(made)


def _skips(seen: Probe, found: list[Place], inputs: str) -> list[Place]:
    """The operands of residual adds that are to be quantized."""
    graph = Graph(seen.only(()))
    by_place: dict[Place, set[NodeInput]] = {}
    for reader, where in seen.at.items():
        by_place.setdefault(where, set()).add(reader)
    skips: set[NodeInput] = set()
    for residual in residuals(graph):
        add = key(residual.add)
        sides = [(add, side.index) for side in residual.skips]
        both = inputs == "downsample" and any(side.fusible for side in residual.skips)
        skips.update(sides if not both else [(add, 0), (add, 1)])
    return [where for where in found if by_place.get(where, set()) & skips]
