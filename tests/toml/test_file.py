"""What a TOML file that breaks its form is answered with: the line, and what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from qdqgraph.cli.settings import Settings
from qdqgraph.errors import RuleError
from qdqgraph.toml.faults import fault
from qdqgraph.toml.file import TomlFile

Texts = tuple[Annotated[str, Meta(min_length=1)], ...]


class Part(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """A part"""

    max_size: Annotated[float, Meta(ge=0)] = 0.0
    names: Texts = ()


class Form(Struct, frozen=True, forbid_unknown_fields=True):
    """A form"""

    code: Annotated[str, Meta(pattern="^[A-Z]+$", examples=["ABC"])] = "ABC"
    kind: Literal["none", "some", 1] = "none"
    count: Annotated[int, Meta(ge=2)] = 2
    flag: bool = False
    named: dict[str, Part] = {}
    listed: tuple[Part, ...] = ()
    either: Part | tuple[Part, ...] = ()


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("\ncod = 1", 2, "unknown key 'cod'; did you mean 'code'?"),
        ("what = 1", 1, "unknown key 'what'; the keys are code, count, either, flag, kind, listed, named"),
        ('code = "x"', 1, "code is 'x'; write, for example, 'ABC'"),
        ("code = 1979-05-27", 1, "code must be a string"),
        ('kind = "som"', 1, "kind is 'som'; write one of 1, none, some"),
        ("kind = 7", 1, "kind is 7; write one of 1, none, some"),
        ("kind = true", 1, "kind is True; write one of 1, none, some"),
        ("flag = 1", 1, "flag must be true or false"),
        ("count = 1.5", 1, "count must be an integer"),
        ("count = 1", 1, "count: 1 is less than the minimum of 2"),
        ("listed = 3", 1, "listed must be an array of tables"),
        ("[named]\nx = 3", 2, "named x must be a table"),
        ('[named."a[b].c"]\n\n"max-size" = -1', 3, "named a[b].c max-size: -1 is less than the minimum of 0"),
        ('[named."a[b].c"]\nmax_size = 1', 2, "unknown key 'max_size'; did you mean 'max-size'?"),
        ("[named]\nx = {max-size = 1,\tnames = 'n'}", 2, "named x names must be an array of strings"),
        ("listed = [{},\n  {names = ['a', '']}]", 2, "listed #2 names #2: '' should be non-empty"),
        ("[[listed]]\n[[listed]]\nname = 1", 3, "unknown key 'name'; did you mean 'names'?"),
        ("either.name = 1", 1, "unknown key 'name'; did you mean 'names'?"),
        ("[[either]]\n[[either]]\nnames = [\n  'a',\n  3]", 5, "either #2 names #2 must be a string"),
        ("a = [", 1, "this is not valid TOML: Invalid value (at end of document)"),
        ("\n\na b", 3, "this is not valid TOML: "),
        ("\r\n\r\na b", 3, "this is not valid TOML: "),
    ],
)
def test_a_fault_is_named_with_its_line(text: str, line: int, said: str, tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_bytes(text.encode())
    with pytest.raises(RuleError) as error:
        TomlFile(file, Form)
    assert str(error.value).startswith(f"{file}:{line}: {said}")


def test_a_table_within_the_file_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text("[tool]\nother = 1\n[tool.mine]\nflag = 1")
    with pytest.raises(RuleError, match=r":4: flag must be true or false"):
        TomlFile(file, Form, ("tool", "mine"))
    assert TomlFile(file, Form, ("tool", "absent")).data == Form()
    with pytest.raises(RuleError, match=r":2: tool.other must be a table"):
        TomlFile(file, Form, ("tool", "other"))


def test_a_file_with_a_byte_order_mark_and_dos_line_ends_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_bytes('\ufeff# first\r\ncode = "ABC"\r\nflag = 1'.encode())
    with pytest.raises(RuleError, match=r":3: flag"):
        TomlFile(file, Form)


def test_a_file_that_nests_too_deeply_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text("a = " + "[" * 100_000)
    with pytest.raises(RuleError, match="nested too deeply"):
        TomlFile(file, Form)


def test_an_integer_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text("a = " + "9" * 5000)
    with pytest.raises(RuleError, match="this is not valid TOML: an integer has thousands of digits"):
        TomlFile(file, Form)


def test_a_setting_of_one_model_is_refused_at_its_line(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text('[tool.qdqgraph]\nexact = true\n\n[tool.qdqgraph.models."det[ab]*.onnx"]\nmax-bits-lost = -1\n')
    with pytest.raises(RuleError, match=r":5: models det\[ab\]\*\.onnx max-bits-lost: -1 is less than"):
        Settings.read(file)
    file.write_text('[tool.qdqgraph]\nexact = true\n\n[tool.qdqgraph.models."det[ab]*.onnx"]\nexcat = true\n')
    with pytest.raises(RuleError, match=r":5: unknown key 'excat'; did you mean 'exact'\?"):
        Settings.read(file)


@pytest.mark.parametrize(
    "value", [1, 8.0, float("nan"), True, "1", [], ["a"], [{}], {}, {"names": ["a"]}, {"max-size": 2}, [[]]]
)
@pytest.mark.parametrize("key", Form.__struct_fields__)
def test_what_the_form_refuses_has_a_fault_and_nothing_else_has(key: str, value: object) -> None:
    """Two libraries look for faults: one fast, the other exact."""
    try:
        msgspec.convert({key: value}, Form)
    except msgspec.ValidationError:
        found = fault({key: value}, Form, "the file")
        assert found is not None
        assert found[0][0] == key
    else:
        assert fault({key: value}, Form, "the file") is None
