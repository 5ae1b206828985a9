"""Convolutions and matrix products of functions, not of layers, that stay in float.

No layer contains their quantizers, so neither `quantize` nor a rule of the graph names them.
"""

from __future__ import annotations

from torch import nn

from ...graph.graph import Graph, Node, input_name
from ...graph.pair import is_pair
from ...graph.selectors import quantizer_path
from ...operators import RECURRENT, WEIGHTED
from ...proposals.readers import is_quantized
from ..calls.treated import OPERATORS, TreatedModule
from ..quantizer.quantizer import backend_of

LAYERS = (TreatedModule, *(getattr(nn.modules, name) for name in OPERATORS))
"""The classes of layers, which `quantize` converts, ignores or names."""


def functions_in_float(model: nn.Module, graph: Graph) -> tuple[str, ...]:
    """The modules whose own forward computes such products, one message each.

    Args:
        model: the model with its quantizers.
        graph: its exported graph.
    """
    layers = (*LAYERS, *backend_of(model).recurrent)
    found: dict[str, tuple[nn.Module, list[str]]] = {}
    for node in graph.nodes():
        if (node.op in WEIGHTED and not _is_int8_or_constant(graph, node)) or node.op in RECURRENT:
            path, module = _owner(model, quantizer_path(graph, node))
            if not isinstance(module, layers):
                found.setdefault(path, (module, []))[1].append(node.op)
    return tuple(_message(path, module, operators) for path, (module, operators) in found.items())


def _is_int8_or_constant(graph: Graph, node: Node) -> bool:
    operands = [input_name(node, index) for index in (0, 1)]
    return all(map(graph.is_constant, operands)) or all(_is_operand_int8(graph, tensor) for tensor in operands)


def _is_operand_int8(graph: Graph, tensor: str) -> bool:
    if not graph.is_constant(tensor):
        return is_quantized(graph, tensor)
    node = graph.producer(tensor)
    while node is not None and node.inputs and not is_pair(node):  # a weight may be transposed after its pair
        node = graph.producer(input_name(node, 0))
    return node is not None and is_pair(node)


def _owner(model: nn.Module, path: str) -> tuple[str, nn.Module]:
    """The innermost module at a path of the graph. The second call of a module has a number there: "conv_1"."""
    module, known = model, list[str]()
    for name in path.split("."):
        plain, _, number = name.rpartition("_")
        own = name if name in module._modules else plain if number.isdecimal() else ""
        child = module._modules.get(own)
        if child is None:
            break
        module = child
        known.append(own)
    return ".".join(known), module


def _message(path: str, module: nn.Module, operators: list[str]) -> str:
    counts = ", ".join(f"{operators.count(name)} {name}" for name in sorted(set(operators)))
    return f"{path or 'the model'} ({type(module).__name__}) computes {counts} in float: no quantizer at their operands"
