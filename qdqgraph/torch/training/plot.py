"""A sensitivity result as a bar chart, SVG."""

from __future__ import annotations

from xml.sax.saxutils import escape

from ...printable import printable
from .ranking import Sensitivity

ROW, NAME, BAR = 18, 420, 360
"""Height of a row, width of the names and of the longest bar, in pixels."""


def svg(result: Sensitivity) -> str:
    """The text of an SVG file: one bar per unit, the most expensive first; negative costs are left of the axis."""
    largest = max((abs(u.cost) for u in result.units), default=0.0) or 1.0
    negative = any(u.cost < 0 for u in result.units)
    axis = NAME + (BAR // 2 if negative else 0)
    length = BAR // 2 if negative else BAR
    height = ROW * (len(result.units) + 2)
    what = "score gained if disabled" if result.direction == "disable" else "score lost if only it is enabled"
    title = f"{what}; quantized {result.quantized:.6g}, unquantized {result.unquantized:.6g}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{NAME + BAR + 90}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<text x="4" y="{ROW - 5}" font-size="12">{_xml(title)}</text>',
    ]
    for row, unit in enumerate(result.units, start=1):
        width = abs(unit.cost) / largest * length
        left = axis if unit.cost >= 0 else axis - width
        more = f" + {len(unit.layers) - 1}" if len(unit.layers) > 1 else ""
        y = row * ROW
        lines.append(f'<text x="{NAME - 8}" y="{y + 13}" text-anchor="end">{_xml(unit.name + more)}</text>')
        lines.append(
            f'<rect x="{left:.1f}" y="{y + 3}" width="{max(width, 0.5):.1f}" height="{ROW - 6}" fill="#4477aa"/>'
        )
        lines.append(f'<text x="{axis + length + 6}" y="{y + 13}">{unit.cost:.4g}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _xml(text: str) -> str:
    return escape(printable(text))
