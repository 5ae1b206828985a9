"""Tables in the width of a terminal."""

from io import StringIO

import pytest
from rich.console import Console
from rich.table import Table

from qdqgraph.report.lines import tabulate

NUMBERS = ("1,505,280", "0.99871", "-34.25", "12.50%")


def printed(width: int, columns: int) -> str:
    table = Table(title="Errors", title_justify="left", box=None)
    table.add_column("layer", overflow="fold")
    for index in range(columns):
        table.add_column(f"figure {index}", justify="right", overflow="fold")
    for name in ("backbone/layer1/conv1/Conv_output_0", "y"):
        table.add_row(name, *(NUMBERS[i % 4] for i in range(columns)))
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    tabulate(console, table)
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("columns", [2, 4, 12])
def test_no_line_is_too_long_and_no_number_is_cut(width: int, columns: int) -> None:
    shown = printed(width, columns)
    assert max(map(len, shown.splitlines())) <= width and "…" not in shown
    for number in NUMBERS[:columns]:
        assert shown.count(number) == 2 * len(range(NUMBERS.index(number), columns, 4))


def test_a_table_that_fits_is_a_table_and_a_wide_one_is_lines_with_names() -> None:
    assert printed(200, 12).splitlines()[1].split()[:3] == ["layer", "figure", "0"]
    narrow = printed(80, 12).splitlines()
    assert narrow[1] == "backbone/layer1/conv1/Conv_output_0"
    assert narrow[2].startswith("    figure 0 1,505,280  figure 1 0.99871")
