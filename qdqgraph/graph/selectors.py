"""Sites of tensors, nodes and PyTorch quantizers, selected by name or glob, for ties that a rule file declares.

PyTorch paths come from what exporters write into the file: the TorchScript exporter writes the module scopes into
node names ("/layer1/layer1.0/conv1/_input_quantizer/QuantizeLinear"), the dynamo exporter into the node metadata
"pkg.torch.onnx.name_scopes". One pair may have several paths, of which a node has one: `qdqgraph.torch.export` and
repairs that merge pairs write the others into the metadata of the model.
"""

from __future__ import annotations

import ast
import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping

import onnx

from ..errors import guess
from .graph import Graph, Node, label
from .pair import is_pair, pairs

SCOPES = "pkg.torch.onnx.name_scopes"
PATHS = "qdqgraph.quantizer."
"""Prefix of the metadata_props keys for paths that no node has; the value is a JSON list of sites."""
HOLDER = "_functional"
"""The module in which `qdqgraph.torch.link` puts the quantizers of a module's calls: "blocks.0._functional.add_0"."""
KINDS = ("tensors", "inputs_of", "outputs_of", "quantizers")


def quantizer_path(graph: Graph, node: Node) -> str:
    """The path of the PyTorch module that a node comes from, "layer1.0.conv1._input_quantizer"; "" if unknown."""
    return path_of(graph.proto(node))


def path_of(node: onnx.NodeProto) -> str:
    """The path of the PyTorch module that a node of a file comes from; "" if unknown."""
    metadata = {p.key: p.value for p in node.metadata_props}
    if SCOPES in metadata:
        try:
            scopes = [str(s) for s in ast.literal_eval(metadata[SCOPES])][:-1]
        except (ValueError, SyntaxError, TypeError):
            return ""
    else:
        scopes = str(node.name).split("/")[:-1]
    return _joined(s for s in scopes if s)


def _joined(scopes: Iterable[str]) -> str:
    """Scopes as one path; a scope may repeat the one before it: "layer1", "layer1.0", "conv1"."""
    path = last = ""
    for scope in scopes:
        if last and scope.startswith(last + "."):
            path += scope[len(last) :]
        else:
            path += ("." if path else "") + scope
        last = scope
    return path


def quantizers(graph: Graph) -> Mapping[str, tuple[str, ...]]:
    """PyTorch paths of the activation quantizers, with their sites; those of the metadata last."""
    return graph.once(_quantizers)


def _quantizers(graph: Graph) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for pair in pairs(graph):
        if pair.tieable and pair.quantize is not None and (path := quantizer_path(graph, pair.quantize)):
            found.setdefault(path, []).append(pair.site)
    for path, sites in _recorded(graph):
        found.setdefault(path, []).extend(s for s in sites if graph.producer(s) is not None or s in graph.inputs)
    return {path: tuple(dict.fromkeys(sites)) for path, sites in found.items() if sites}


def _recorded(graph: Graph) -> Iterator[tuple[str, list[str]]]:
    """The paths in the metadata with their sites; entries that another program changed are left out."""
    for entry in graph.model.metadata_props:
        if entry.key.startswith(PATHS):
            try:
                sites = json.loads(entry.value)
            except (ValueError, RecursionError):
                continue
            if isinstance(sites, list):
                yield entry.key[len(PATHS) :], [site for site in sites if isinstance(site, str)]


def select_paths(graph: Graph, name: str) -> tuple[str, ...]:
    """The paths of quantizers that a name or glob matches: of the quantizer, or of the module that contains it."""
    return tuple(path for path in quantizers(graph) if _inside(path, name))


def merged(graph: Graph, name: str) -> tuple[tuple[str, str, str], ...]:
    """The inputs of modules whose own quantizer an exporter merged with another's: (site, module, the other's path).

    The name or glob must match the module, and the module must have another quantizer of its own: the second operand of
    an addition, say.
    """
    paths = quantizers(graph)
    modules = {module for path in paths if (module := path.rpartition(".")[0]) and fnmatch.fnmatchcase(module, name)}
    known = {site for path in paths if path.rpartition(".")[0] in modules for site in paths[path]}
    table, found = pairs(graph), dict[str, tuple[str, str, str]]()
    for node in graph.nodes() if modules else ():
        if is_pair(node) or (module := path_of(graph.proto(node))) not in modules:
            continue
        for tensor in node.inputs:
            pair = table.made(tensor.name)
            if pair is None or not pair.tieable or pair.quantize is None or pair.site in known:
                continue
            if other := quantizer_path(graph, pair.quantize):
                found.setdefault(pair.site, (pair.site, module, other))
    return tuple(found.values())


def select_sites(graph: Graph, kind: str, name: str) -> tuple[str, ...]:
    """The sites that a name or glob of one of `KINDS` matches, in file order; empty if it matches nothing."""
    if kind == "tensors":
        return _sites(graph, (t for t in _tensors(graph) if fnmatch.fnmatchcase(t, name)))
    if kind == "quantizers":
        own = [site for path in select_paths(graph, name) for site in quantizers(graph)[path]]
        return tuple(dict.fromkeys((*own, *(site for site, _, _ in merged(graph, name)))))
    nodes = [n for n in graph.nodes() if fnmatch.fnmatchcase(label(n), name)]
    ends = (t.name for n in nodes for t in (n.inputs if kind == "inputs_of" else n.outputs))
    return _sites(graph, (t for t in ends if t))


def nearest(graph: Graph, kind: str, name: str) -> str:
    """A hint for a message about a name that matches nothing: the most similar known name, see `guess`."""
    known = list(quantizers(graph)) if kind == "quantizers" else list(known_names(graph, kind))
    return guess(name, known, cutoff=0.4)


def known_names(graph: Graph, kind: str) -> Iterator[str]:
    """The names of one of `KINDS` that a name or glob may match, in file order."""
    if kind == "tensors":
        yield from _tensors(graph)
    elif kind == "quantizers":
        yield from (name for path in quantizers(graph) for name in _of_path(path))
    else:
        yield from (label(n) for n in graph.nodes())


def _of_path(path: str) -> tuple[str, ...]:
    """A quantizer's path, the module that directly contains it, and the one whose call it is at."""
    module = path.rpartition(".")[0]
    caller, holder, _ = f".{module}".rpartition(f".{HOLDER}.")
    return tuple(p for p in (path, module, caller[1:] if holder else "") if p)


def _inside(path: str, name: str) -> bool:
    """Whether the name matches one of the names of a quantizer's path."""
    return any(fnmatch.fnmatchcase(p, name) for p in _of_path(path))


def _tensors(graph: Graph) -> Iterator[str]:
    yield from sorted(graph.inputs)
    yield from (t.name for n in graph.nodes() for t in n.outputs if t.name)
    yield from graph.casts


def _sites(graph: Graph, tensors: Iterable[str]) -> tuple[str, ...]:
    """Tensors as sites: the output of a pair is replaced by the tensor that it quantizes; constants are left out."""
    table, found = pairs(graph), dict[str, None]()
    for tensor in tensors:
        maker = graph.producer(tensor)
        own = table.of(maker) if maker is not None and maker.op == "QuantizeLinear" else None
        site = own.site if own is not None else table.root(tensor)
        if not graph.is_constant(site):
            found[site] = None
    return tuple(found)
