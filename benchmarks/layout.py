"""The layout of the package in figures: rooms, floors, imports between rooms, cycles; and the imports as a drawing.

    python benchmarks/layout.py [PACKAGE_FOLDER] [--dot FILE] [--deep]

A room is a folder of the package, or a module that lies beside the folders; with --deep the folders inside folders are
rooms of their own. A floor is the length of the longest chain of imports below a room. Imports for type checkers alone
are left out, as in the contracts of pyproject.toml. PACKAGE_FOLDER can be that of another checkout, to compare.
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
    """The rooms of a package with an edge for each room that imports another; `count` says how many modules do."""
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
    """The room of a module: its first folder below the package, or with `deep` the innermost; a bare module is one."""
    parts = module.split(".")[1:]
    most = len(parts) if deep else 1
    for length in range(1, most + 1):
        folder = package.joinpath(*parts[:length])
        if not folder.is_dir():
            return ".".join(parts[:length])  # a module beside folders
        if not any((below / "__init__.py").is_file() for below in folder.iterdir()):
            return ".".join(parts[:length])
    return ".".join(parts[:most])


def floors(graph: networkx.DiGraph) -> dict[str, int]:
    """The floor of each room; rooms of one cycle share a floor."""
    whole = networkx.condensation(graph)
    height: dict[int, int] = {}
    for node in reversed(list(networkx.topological_sort(whole))):
        height[node] = max((height[n] + 1 for n in whole.successors(node)), default=0)
    return {name: height[node] for node in whole for name in whole.nodes[node]["members"]}


def dot(graph: networkx.DiGraph, height: Mapping[str, int]) -> str:
    """The drawing for Graphviz, one rank a floor."""
    lines = ["digraph layout {", "  rankdir=BT; node [shape=box, fontname=sans]; edge [color=gray40];"]
    for floor in sorted(set(height.values())):
        same = " ".join(f'"{name}";' for name in sorted(height) if height[name] == floor)
        lines.append(f"  {{ rank=same; {same} }}")
    lines += [f'  "{b}" -> "{a}" [dir=back, label="{graph[a][b]["count"]}"];' for a, b in sorted(graph.edges)]
    return "\n".join([*lines, "}"]) + "\n"


def report(graph: networkx.DiGraph) -> Iterable[str]:
    """The figures, and the rooms floor by floor."""
    height = floors(graph)
    cycles = [sorted(c) for c in networkx.strongly_connected_components(graph) if len(c) > 1]
    imports = sum(count for *_, count in graph.edges(data="count"))
    yield f"{len(graph)} rooms, {max(height.values()) + 1} floors, {graph.number_of_edges()} arrows ({imports} imports)"
    yield f"{len(cycles)} cycles" + "".join(f"\n  {' <-> '.join(cycle)}" for cycle in cycles)
    for floor in sorted(set(height.values()), reverse=True):
        yield f"{floor:3}  {'  '.join(sorted(name for name in height if height[name] == floor))}"


def main() -> int:
    """Prints the figures."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("package", type=Path, nargs="?", default=HERE, help="its folder (default: this checkout's)")
    arguments.add_argument("--dot", type=Path, help="write the drawing for Graphviz")
    arguments.add_argument("--deep", action="store_true", help="folders inside folders are rooms of their own")
    args = arguments.parse_args()
    graph = rooms(args.package.resolve(), args.deep)
    print(*report(graph), sep="\n")
    if args.dot:
        args.dot.write_text(dot(graph, floors(graph)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
