"""Inserts quantizers at the functional operators that a configuration names: all adds, the Concats of a neck, the pools
of a class."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...errors import TorchError
from ...graph.blocks import residuals
from ...graph.graph import Graph, key
from ...proposals.proposal import NodeInput
from ..calls.functional import Place
from ..calls.places import insert_quantizer
from ..linking.probe import Probe, probe
from ..quantizer.choice import select_modules
from ..quantizer.quantizer import backend_of
from .config import ADD_INPUTS, Operator, Spec

SHARING = ("cat", "concat", "concatenate", "stack")
"""Operators whose inputs share one quantizer."""


def insert_at_operator(model: nn.Module, example: Any, entry: Operator, spec: Spec) -> tuple[str, ...]:
    """Inserts quantizers at an operator's calls; returns their paths.

    All inputs of a Concat share one quantizer, as TensorRT requires. The "skip" of an add is the operand that does not
    end in a convolution of the block, in the exported graph.

    Args:
        example: as for `export`.
        spec: how the inputs are quantized.

    Raises:
        TorchError: no selected module calls the operator, or the operator does not have these `inputs`.
    """
    if entry.inputs not in ADD_INPUTS:
        raise TorchError(f"operators: {entry.operator} has no inputs = {entry.inputs!r}: write {', '.join(ADD_INPUTS)}")
    if entry.inputs != "both" and entry.operator != "add":
        raise TorchError(f"operators: {entry.operator} has no skip; inputs = {entry.inputs!r} is for add")
    probed = probe(model, example)
    modules = dict(model.named_modules())
    selected = select_modules(modules, entry.modules, "operators")
    found = [
        p
        for p in probed.places.values()
        if p.call.operator == entry.operator
        and p.module in selected
        and (not entry.classes or type(modules[p.module]).__name__ in entry.classes)
    ]
    if not found:
        known = ", ".join(sorted({p.call.operator for p in probed.places.values()})) or "none"
        raise TorchError(f"operators: no selected module calls {entry.operator!r}; the model calls {known}")
    wanted = _skip_operands(probed, found, entry.inputs) if entry.inputs != "both" else found
    quantizers = {}
    paths = []
    for place in wanted:
        owner = (place.module, place.call) if entry.operator in SHARING else place
        if owner not in quantizers:
            quantizers[owner] = spec.quantizer(None, backend_of(model))
        paths.append(insert_quantizer(model, place, quantizers[owner]))
    return tuple(paths)


def _skip_operands(probed: Probe, found: list[Place], inputs: str) -> list[Place]:
    """The operands of residual adds that `inputs` selects, of those found."""
    graph = Graph(probed.with_places(()))
    by_place: dict[Place, set[NodeInput]] = {}
    for reader, place in probed.place_of_reader.items():
        by_place.setdefault(place, set()).add(reader)
    skips: set[NodeInput] = set()
    for residual in residuals(graph):
        add = key(residual.add)
        operands = [(add, side.index) for side in residual.skips]
        both = inputs == "downsample" and any(side.fusible for side in residual.skips)
        skips.update(operands if not both else [(add, 0), (add, 1)])
    return [place for place in found if by_place.get(place, set()) & skips]
