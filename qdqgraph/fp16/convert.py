"""`to_fp16`: converts the unquantized part of a Q/DQ model to FP16, typed for a strongly typed TensorRT build."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from ..errors import ModelError, RepairError, counted
from ..graph.pair import bits_lost
from ..model.content import same
from ..model.external import external_files
from ..model.functions import inlined
from ..model.inline.on_demand import OnDemand
from ..model.opset import raised
from ..model.protos import key, names, refill, subgraphs
from ..repair.plan import Plan
from ..repair.repair import Repair
from ..repair.solution import Change
from ..repair.work import ROUNDS
from ..targets.target import Target
from .choose import Reasons, chosen
from .net import FLOAT, Net
from .types import Types, typed
from .weights import folded
from .write import Writer

OPSET = 19
"""The first opset whose Q and DQ accept FP16: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html"""


@dataclass(frozen=True)
class Kept:
    """A node, graph input or graph output that stays FP32.

    Attributes:
        node: the key of the node (its first output), or the name of the graph input or output.
        op: its operator, "graph input" or "graph output".
        reason: why it stays FP32.
    """

    node: str
    op: str
    reason: str


@dataclass(frozen=True)
class Fp16Model(OnDemand):
    """The result of `to_fp16`.

    Attributes:
        model: the model in FP16.
        kept: what stays FP32, in file order.
        casts: number of Casts between FP32 and FP16 in the new model.
        scale_change: the largest relative change of a scale by rounding to FP16.
    """

    model: onnx.ModelProto
    kept: tuple[Kept, ...]
    casts: int
    scale_change: float

    def __repr__(self) -> str:
        found = f"{counted(len(self.kept), 'node')} in FP32, {counted(self.casts, 'Cast')}"
        return f"<Fp16Model: {found}, scales change by at most {self.scale_change:.2g}>"


def to_fp16(
    model: onnx.ModelProto,
    folder: Path | None = None,
    *,
    keep_io: bool = False,
    ranges: Mapping[str, float] | None = None,
    skip: Sequence[str] = (),
) -> Fp16Model:
    """Returns the model with every FP32 tensor converted to FP16 if possible, for strongly typed TensorRT.

    Args:
        model: the model; it is not modified.
        folder: the folder that contains the external data.
        keep_io: graph inputs and outputs keep their types, with one Cast each.
        ranges: the largest magnitude of each tensor, by name (`measured_ranges`); nodes with a tensor beyond FP16's
            range stay FP32.
        skip: globs on the names of nodes and of their outputs; those nodes stay FP32.

    Raises:
        ModelError: external data are missing, or a node cannot be converted to the opset that FP16 Q/DQ need.
    """
    external_files(model, folder or Path())
    later = raised(inlined(model)[0], OPSET)
    net = Net(folded(later, folder), folder)
    stay = chosen(net, ranges or {}, skip)
    types = typed(net, stay, keep_io=keep_io)
    writer = Writer(net, types)
    new = _pruned(writer.model(), later)
    change = max((s.change for s in net.scales.values()), default=0.0)
    return Fp16Model(new, tuple(_kept(net, stay, types, keep_io)), writer.casts, change)


def refuse_target(target: Target) -> None:
    """Rejects a target that cannot use FP16 types in the file.

    Raises:
        ModelError: the target does not accept FP16 Q/DQ.
    """
    if not target.fp16:
        raise ModelError(
            f"{target.title} does not accept FP16 Q/DQ, which need opset {OPSET} and strong typing: omit FP16 and "
            "build the FP32 file with `trtexec --int8 --fp16`, which runs the unquantized layers in FP16"
        )


def with_fp16(
    model: onnx.ModelProto,
    result: Repair,
    folder: Path,
    *,
    repair: Callable[[onnx.ModelProto], Repair],
    plain: Callable[[onnx.ModelProto], Repair],
    keep_io: bool = False,
    ranges: Mapping[str, float] | None = None,
    skip: Sequence[str] = (),
) -> tuple[Repair, Fp16Model]:
    """Returns the repair with the FP16 conversion as its last step, and the result of `to_fp16`.

    The conversion can give the rules something to do: rounding makes scales equal that differed before, or brings a
    refused tie within the guard; a constant whose QuantizeLinear is folded has only a DequantizeLinear, whose axis may
    be another one; the opset is raised. The FP16 model is then repaired again, so that a second run on it finds nothing
    to do. The plan of the returned repair leads from the original model to the FP16 model.

    Data give a pair that stays in FP32 its scale before rounding, which the conversion rounds again: a repair that the
    conversion takes back as a whole counts as none.

    Args:
        model: the original model.
        result: its repair.
        folder: the folder that contains the external data.
        repair: repairs a model as `result` was made.
        plain: the same without data; if it finds nothing to do, and no tie was refused, neither does `repair`.
        keep_io, ranges, skip: as `to_fp16`.

    Raises:
        ModelError: as `to_fp16`.
        RepairError: as `repair`; or repair and conversion change the model in turns, without end (QDQ904).
    """
    half, before = Fp16Model(model, (), 0, 0.0), _without_effect(result, model)
    for _ in range(ROUNDS):
        last, half = half, to_fp16(result.model, folder, keep_io=keep_io, ranges=ranges, skip=skip)
        if result.measured is not None and same(last.model, half.model, folder):
            result, half = before, replace(half, model=last.model, scale_change=last.scale_change)
            break
        refused = any(f.refused and f.bits_lost is not None for f in result.left)
        if half.model == result.model or not (refused or plain(half.model).plan.edits):
            break
        later = repair(half.model)
        if not later.plan.edits:
            break
        before, result = result, _both(result, later)
    else:
        codes = ", ".join(sorted({finding.code for finding in later.applied}))
        raise RepairError(
            f"QDQ904: no fixpoint after {ROUNDS} conversions to FP16; the last repair still applied {codes}"
        )
    return replace(result, model=half.model, plan=Plan.between(model, half.model)), half


def _without_effect(result: Repair, model: onnx.ModelProto) -> Repair:
    """Returns the repair of a model whose effect is taken back."""
    return replace(
        result,
        exact=model,
        start=model,
        functions=(),
        opset=None,
        applied=(),
        changes=(),
        pairs_added=0,
        pairs_removed=0,
    )


def _both(first: Repair, later: Repair) -> Repair:
    """Returns two repairs as one; the second is a repair of the first one's model in other types."""
    before = {change.site: change for change in first.changes}
    for change in later.changes:
        own = min(change.own, before[change.site].own) if change.site in before else change.own
        before[change.site] = Change(change.site, own, change.new, bits_lost(change.new, own))
    return replace(
        later,
        floats=first.floats,
        exact=first.exact,
        start=first.start,
        functions=first.functions,
        opset=first.opset,
        found=first.found,
        legal=first.legal,
        applied=(*first.applied, *later.applied),
        changes=tuple(before.values()),
        pairs_before=first.pairs_before,
        pairs_added=first.pairs_added + later.pairs_added,
        pairs_removed=first.pairs_removed + later.pairs_removed,
    )


def _kept(net: Net, stay: Reasons, types: Types, keep_io: bool) -> Iterator[Kept]:
    for name in net.inputs:
        if not keep_io and types.native.get(name) == FLOAT:
            why = "a subgraph reads it" if name in net.captured else "all its consumers stay FP32"
            yield Kept(name, "graph input", why)
    for position, node in enumerate(net.nodes):
        place = key(node)
        touched = any(net.types.get(name, FLOAT) == FLOAT for name in (*node.input, *node.output) if name)
        if position in stay and touched:
            yield Kept(place, node.op_type, stay[position])
        elif position in net.scales and net.scales[position].half is None:
            yield Kept(place, node.op_type, f"its scale {net.scales[position].fault}")
    for name in net.outputs:
        if (
            not keep_io
            and (net.source(name), FLOAT) in types.demands
            and name in types.demands[net.source(name), FLOAT]
        ):
            yield Kept(name, "graph output", "its producer stays FP32")


def _pruned(new: onnx.ModelProto, old: onnx.ModelProto) -> onnx.ModelProto:
    """Removes what lost its last consumer in the conversion: scales after Casts, float weights, their value_info."""
    read_before = _read(old)
    while True:
        read = _read(new)
        alive = [
            n for n in new.graph.node if any(o in read for o in n.output) or not any(o in read_before for o in n.output)
        ]
        if len(alive) == len(new.graph.node):
            break
        refill(new.graph.node, alive)
    gone = {t.name for t in new.graph.initializer if t.name not in read and t.name in read_before}
    _drop(new.graph.initializer, gone)
    _drop(new.graph.input, gone)
    present = set(names(new.graph))
    _drop(new.graph.value_info, {i.name for i in new.graph.value_info} - present)
    return new


def _drop(items: Any, gone: set[str]) -> None:
    for index in range(len(items) - 1, -1, -1):
        if items[index].name in gone:
            del items[index]


def _read(model: onnx.ModelProto) -> set[str]:
    """Returns every tensor name that is consumed: node inputs and graph outputs, including those of subgraphs."""
    graphs, found = [model.graph], set[str]()
    while graphs:
        graph = graphs.pop()
        found.update(o.name for o in graph.output)
        for node in graph.node:
            found.update(node.input)
            graphs += subgraphs(node)
    return found
