"""Graphs with their forecasts and findings, and what two graphs have in common: the numbers of their boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from ...engines.forecast.forecast import fused
from ...graph.graph import Graph
from ...repair.gate import is_float, quantized
from ...repair.options import Options
from ...repair.solution import Change, Solution
from ...rulekit.rule import Rule, handled
from ...targets.target import Target
from ..checked import Checked
from ..examined import Examined, examined_graph
from ..histograms import Values
from .kernels import Boxes, one_engine
from .parts import Engines, Fact, View
from .views import Drawn, view


@dataclass(frozen=True, eq=False)
class Scene:
    """Graphs of one network: one, or before and after a repair.

    Attributes:
        drawn: the graphs.
        numbers: the number of each box by its key, the same in all graphs.
    """

    drawn: tuple[Drawn, ...]
    numbers: Mapping[str, int]

    @property
    def views(self) -> tuple[View, ...]:
        """The graphs as the page shows them."""
        return tuple(view(each, self.numbers) for each in self.drawn)

    @property
    def boxes(self) -> tuple[Boxes, ...]:
        """For each graph, the numbers of the boxes that a kernel computes."""
        return tuple(_boxes(each, self.numbers) for each in self.drawn)

    def box(self, tensor: str, node: str = "") -> int | None:
        """The number of the box of a tensor, or of the node of this label; of the first graph that has it."""
        for each in self.drawn:
            if (index := each.box_at(tensor, node)) is not None:
                return self.numbers[each.folding.boxes[index].key]
        return None

    @property
    def engines(self) -> Engines:
        """The engine of the first graph."""
        return one_engine(self.drawn[0].engine, self.boxes[0])

    @property
    def target(self) -> str:
        """The TensorRT generation of the forecasts, in words."""
        return self.drawn[0].graph.target.title


def scene(*drawn: Drawn) -> Scene:
    """Graphs of one network. A box has the number of the box of an earlier graph with its key, else of one that makes a
    tensor that it makes: a rewritten operator has another name, and its result often the same."""
    numbers: dict[str, int] = {}
    makers: dict[str, int] = {}
    for each in drawn:
        boxes = each.folding.boxes
        used = {numbers[box.key] for box in boxes if box.key in numbers}
        for box in boxes:
            made = [t.name for node in box.nodes for t in node.outputs if t.name]
            if box.key not in numbers:
                alike = (makers[name] for name in made if name in makers and makers[name] not in used)
                number = next(alike, len(set(numbers.values())))
                numbers[box.key] = number
                used.add(number)
            for name in made:
                makers.setdefault(name, numbers[box.key])
    return Scene(drawn, numbers)


def known(
    model: onnx.ModelProto, folder: Path, name: str, rules: Sequence[Rule], options: Options
) -> tuple[Drawn, Checked]:
    """A graph, and what `check` says of it; a float network has no findings.

    Raises:
        ModelError: the model cannot be imported.
        RuleError: a rule crashed.
    """
    graph = Graph.opened(model, folder, target=Target.named(options.target), keeps=handled(rules))
    if is_float(graph, rules):
        found = Examined(graph, graph.target, fused(graph, name), (), Solution((), (), ()), ())
    else:
        found = examined_graph(quantized(graph, rules), name, rules, options)
    return drawn_of(found), Checked(name, found.findings, found)


def drawn_of(
    found: Examined,
    facts: Mapping[str, tuple[Fact, ...]] | None = None,
    values: Mapping[str, Values] | None = None,
) -> Drawn:
    """An examined graph, with what was measured of its layers and what data show of its sites."""
    return Drawn("", found.graph, found.engine, found.groups.groups, facts=facts or {}, values=values or {})


def titled(drawn: Drawn, title: str, values: Mapping[str, Values], changes: Sequence[Change] = ()) -> Drawn:
    """The same graph with a title, what data show of its sites, and the scales that changed on the way to it."""
    return replace(drawn, title=title, values=values, changes=tuple(changes))


def _boxes(drawn: Drawn, numbers: Mapping[str, int]) -> Boxes:
    keys = [numbers[box.key] for box in drawn.folding.boxes]
    return lambda layer: tuple(keys[index] for index in drawn.kernels.get(id(layer), ()))
