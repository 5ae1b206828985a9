"""Figures on the layout of the package: packages, levels, imports between packages, cycles; and the imports as a graph.

    python benchmarks/layout.py [PACKAGE_FOLDER] [--dot FILE] [--deep]

A package is a folder of qdqgraph, or a module outside the folders; with --deep, subfolders are separate packages. The
level of a package is the length of the longest import chain below it. Imports for type checkers only are ignored, as in
the contracts of pyproject.toml. To compare, PACKAGE_FOLDER can be the folder of another checkout.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import grimp
import networkx

HERE = Path(__file__).resolve().parent.parent / "qdqgraph"


def rooms(package: Path, deep: bool) -> networkx.DiGraph:
    """The packages, with an edge for each package that imports another; `count` is the number of importing modules."""
    sys.path.insert(0, str(package.parent))
    built = grimp.build_graph(package.name, exclude_type_checking_imports=True, cache_dir=None)
    sys.path.pop(0)
    found = networkx.DiGraph()
    edges: Mapping[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for module in built.modules - {package.name}:
        mine = room(module, package, deep)
        found.add_node(mine)
        for other in built.find_modules_directly_imported_by(module) - {package.name}:
            theirs = room(other, package, deep)
            if mine != theirs:
                edges[mine, theirs].add((module, other))
    for (mine, theirs), imports in edges.items():
        found.add_edge(mine, theirs, count=len(imports))
    return found


def room(module: str, package: Path, deep: bool) -> str:
    """The package of a module: its top-level folder, or with `deep` the innermost; a module outside folders is its
    own."""
    parts = module.split(".")[1:]
    most = len(parts) if deep else 1
    for length in range(1, most + 1):
        folder = package.joinpath(*parts[:length])
        if not folder.is_dir():
            return ".".join(parts[:length])  # a module outside folders
        if not any((below / "__init__.py").is_file() for below in folder.iterdir()):
            return ".".join(parts[:length])
    return ".".join(parts[:most])


def floors(graph: networkx.DiGraph) -> dict[str, int]:
    """The level of each package; the packages of a cycle share a level."""
    whole = networkx.condensation(graph)
    height: dict[int, int] = {}
    for node in reversed(list(networkx.topological_sort(whole))):
        height[node] = max((height[n] + 1 for n in whole.successors(node)), default=0)
    return {name: height[node] for node in whole for name in whole.nodes[node]["members"]}


def dot(graph: networkx.DiGraph, height: Mapping[str, int]) -> str:
    """The import graph for Graphviz, one rank per level."""
    lines = ["digraph layout {", "  rankdir=BT; node [shape=box, fontname=sans]; edge [color=gray40];"]
    for floor in sorted(set(height.values())):
        same = " ".join(f'"{name}";' for name in sorted(height) if height[name] == floor)
        lines.append(f"  {{ rank=same; {same} }}")
    lines += [f'  "{b}" -> "{a}" [dir=back, label="{graph[a][b]["count"]}"];' for a, b in sorted(graph.edges)]
    return "\n".join([*lines, "}"]) + "\n"


def report(graph: networkx.DiGraph) -> Iterable[str]:
    """The figures, and the packages by level."""
    height = floors(graph)
    cycles = [sorted(c) for c in networkx.strongly_connected_components(graph) if len(c) > 1]
    imports = sum(count for *_, count in graph.edges(data="count"))
    edges = graph.number_of_edges()
    yield f"{len(graph)} packages, {max(height.values()) + 1} levels, {edges} import edges ({imports} imports)"
    yield f"{len(cycles)} cycles" + "".join(f"\n  {' <-> '.join(cycle)}" for cycle in cycles)
    for floor in sorted(set(height.values()), reverse=True):
        yield f"{floor:3}  {'  '.join(sorted(name for name in height if height[name] == floor))}"


def main() -> int:
    """Prints the figures."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("package", type=Path, nargs="?", default=HERE, help="the folder (default: this checkout's)")
    arguments.add_argument("--dot", type=Path, help="write the import graph for Graphviz")
    arguments.add_argument("--deep", action="store_true", help="treat subfolders as separate packages")
    args = arguments.parse_args()
    graph = rooms(args.package.resolve(), args.deep)
    print(*report(graph), sep="\n")
    if args.dot:
        args.dot.write_text(dot(graph, floors(graph)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
