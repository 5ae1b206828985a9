"""docs/architecture.svg: the folders of the package on their levels, with the imports between them, from the code.

Levels are those of the first import contract in pyproject.toml. An arrow is an import that no path of other arrows
implies. Arrows to the lowest levels are left out: everything may import these.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import grimp

from .paths import project

WIDTH, ROW, BOX, TALL = 900, 66, 104, 26
"""Pixels: width of the picture, distance of levels, width and height of a box."""
FONT, FILL = 'font-family="sans-serif" font-size="13"', 'fill="#eaf1f7" stroke="#556677"'
EVERYWHERE = 2
"""The lowest levels: errors, texts, processes."""
ROUNDS = 24
"""Rounds in which each level is ordered by its neighbours."""
Node = tuple[str, int]
"""A folder, or the place where an arrow crosses a level: name and level."""


def levels() -> list[list[str]]:
    """The folders of each level, uppermost first."""
    contract = project()["tool"]["importlinter"]["contracts"][0]
    return [level.split(" | ") for level in contract["layers"]]


def imports(names: list[str]) -> dict[str, set[str]]:
    """For each folder those that its modules import; imports for type checkers only are left out."""
    graph = grimp.build_graph("qdqgraph", exclude_type_checking_imports=True, cache_dir=None)
    found: dict[str, set[str]] = {}
    for name in names:
        modules = {f"qdqgraph.{name}"} | graph.find_descendants(f"qdqgraph.{name}")
        targets = {t.split(".")[1] for m in modules for t in graph.find_modules_directly_imported_by(m) if "." in t}
        found[name] = (targets - {name}) & set(names)
    return found


def reduced(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The edges that no longer path implies; the graph has no cycle."""

    def below(name: str) -> set[str]:
        return {low for target in edges[name] for low in {target} | below(target)}

    return {name: {t for t in ts if not any(t in below(other) for other in ts - {t})} for name, ts in edges.items()}


def routes(rows: list[list[str]]) -> tuple[list[list[Node]], list[list[Node]]]:
    """Levels with the crossings of long arrows added, and each arrow as the nodes that it passes."""
    level = {name: i for i, row in enumerate(rows) for name in row}
    grid: list[list[Node]] = [[(name, i) for name in row] for i, row in enumerate(rows)]
    arrows: list[list[Node]] = []
    drawn = [name for row in rows[:-EVERYWHERE] for name in row]
    for name, targets in reduced(imports(drawn)).items():
        for target in sorted(targets):
            inner: list[Node] = [(f"{name} {target}", i) for i in range(level[name] + 1, level[target])]
            for node in inner:
                grid[node[1]].append(node)
            arrows.append([(name, level[name]), *inner, (target, level[target])])
    return grid, arrows


def places(grid: list[list[Node]], arrows: list[list[Node]]) -> dict[Node, float]:
    """The x of each node: every level ordered by the mean of its neighbours, then spread over the width."""
    near: dict[Node, list[Node]] = {node: [] for row in grid for node in row}
    for arrow in arrows:
        for high, low in pairwise(arrow):
            near[high].append(low)
            near[low].append(high)
    x: dict[Node, float] = {}
    for row in grid:
        x.update(spread(row))

    def wanted(node: Node) -> float:
        return sum(x[n] for n in near[node]) / len(near[node]) if near[node] else x[node]

    for turn in range(ROUNDS):
        for row in grid if turn % 2 else grid[::-1]:
            row.sort(key=lambda node: (wanted(node), node))
            x.update(spread(row))
    return x


def spread(row: list[Node]) -> dict[Node, float]:
    """The row over the width; a crossing takes a third of the room of a box."""
    sizes = [1 if " " in name else 3 for name, _ in row]
    unit = WIDTH / sum(sizes)
    return {node: unit * (sum(sizes[:i]) + sizes[i] / 2) for i, node in enumerate(row)}


def picture() -> str:
    """The text of docs/architecture.svg."""
    rows = levels()
    grid, arrows = routes(rows)
    x = places(grid, arrows)
    height = ROW * len(rows)

    def y(node: Node) -> float:
        return ROW * node[1] + ROW / 2

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        "<title>The folders of qdqgraph: each imports only from those below it. "
        "Arrows to the two lowest levels are left out</title>",
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#789"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for arrow in arrows:
        start = f"M{x[arrow[0]]:.0f},{y(arrow[0]) + TALL / 2:.0f}"
        path = [start]
        for high, low in pairwise(arrow):
            crossing = " " in low[0]
            top, end = (y(high) if " " in high[0] else y(high) + TALL / 2), (y(low) if crossing else y(low) - TALL / 2)
            middle = (top + end) / 2
            path.append(f"C{x[high]:.0f},{middle:.0f} {x[low]:.0f},{middle:.0f} {x[low]:.0f},{end:.0f}")
        lines.append(f'<path d="{" ".join(path)}" fill="none" stroke="#789" stroke-width="1.2" marker-end="url(#a)"/>')
    for row in grid:
        for name, level in row:
            if " " in name:
                continue
            middle, top = x[name, level], y((name, level)) - TALL / 2
            lines += [
                f'<rect x="{middle - BOX / 2:.0f}" y="{top:.0f}" width="{BOX}" height="{TALL}" rx="5" {FILL}/>',
                f'<text x="{middle:.0f}" y="{top + TALL / 2 + 4:.0f}" text-anchor="middle" {FONT}>{name}</text>',
            ]
    return "\n".join([*lines, "</svg>"]) + "\n"
