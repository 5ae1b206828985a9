"""How mistakes in text rules are answered: file, line, and what to write."""

import pytest

from qdqgraph import RuleError
from tests.support.text_rules import HEAD, Load

GOOD = f"""{HEAD}safety = "exact"
pattern = '''
p (x, s, z) => (y) {{
    q = QuantizeLinear (x, s, z)
    y = DequantizeLinear (q, s, z)
}}'''
rewrite = "r (x) => (y) {{ y = Relu (x) }}"
where = [
    "scalar(s)",
    "zero(z)",
]
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('code = "MY201"', 'code = "my1"', 1, "code is 'my1'; write, for example, 'MY201'"),
        ('name = "my-rule"', 'name = "My Rule"', 2, "name is 'My Rule'; write, for example, 'repeated-pair'"),
        ("summary", "summry", 3, "unknown key 'summry'; did you mean 'summary'?"),
        ('source = ["measured"]', 'source = "measured"', 5, "source must be an array of strings"),
        ('safety = "exact"', 'safety = "safe"', 6, "safety is 'safe'; write one of exact, lossy, manual"),
        ('safety = "exact"', 'safety = "manual"', 6, "the rule proposes a repair: write exact or lossy"),
        ('safety = "exact"', 'safety = "exact', 6, "this is not valid TOML"),
        ("QuantizeLinear (x, s, z)\n    y", "Quantizelinear (x, s, z)\n    y", 9, "ONNX has no operator 'Quantizelinear'; did you mean 'QuantizeLinear'?"),
        ("DequantizeLinear (q, s, z)", "DequantizeLinear (q, s, zz)", 10, "variable 'zz' is not defined: add it to the parameters, or produce it; did you mean 'z'?"),
        ("(x, s, z) => (y) {", "(x, s, z, w) => (y) {", 8, "parameter 'w' is never used"),
        ("(x, s, z) => (y) {", "(x, s, z) => (v) {", 8, "no node of the function produces output 'v'"),
        ("    y = Dequ", "    q = Dequ", 9, "variable 'q' is defined twice"),
        ("    y = DequantizeLinear (q, s, z)\n", "    y = DequantizeLinear (q, s, z\n", 11, "this is not ONNX function text"),
        ("r (x) => (y)", "r (x, k) => (y)", 12, "parameter 'k' is never used"),
        ("y = Relu (x) }", "v = Relu (x) }", 12, "no node of the function produces output 'y'"),
        ('"zero(z)"', '"zer(z)"', 15, "there is no predicate 'zer'; did you mean 'zero'? The list: same_value,"),
        ('"zero(z)"', '"zero(k)"', 15, "the pattern has no variable 'k'; it has q, s, x, y, z"),
        ('"zero(z)"', '"zero z"', 15, "is not a condition; write, for example: scalar(s), or: not constant(x)"),
        ('"zero(z)"', '"same_value(z)"', 15, "has 1 arguments; write, for example: same_value(s, t)"),
        ('"zero(z)"', '"dtype(z, int9)"', 15, "ONNX has no type 'int9'"),
        ('"zero(z)"', '"followed_by(y, Cov)"', 15, "ONNX has no operator 'Cov'"),
        ('"zero(z)"', '"rank(x, four)"', 15, "'four' is not a number"),
        ("where", 'optional = ["t"]\nwhere', 13, "optional names 't', which is not a variable of the pattern"),
        ("where", 'at = "x"\nwhere', 13, "at names the parameter 'x'; name an output of a node of the pattern"),
        ("where", 'message = "{t}"\nwhere', 13, "unknown placeholder {t}"),
        ("where", 'message = "{x.size}"\nwhere', 13, "variable.field with one of value, shape"),
        ("where", 'message = "{x"\nwhere', 13, "is not a template"),
        ('    "zero(z)",\n]', '    "zero(z)",\n]\n[tie]\nsites = ["x"]', 17, "a rewrite or ties, not both"),
        ('    "zero(z)",\n]', '    "zero(z)",\n]\n[[example]]\ntitle = "t"\nbefor = "m"', 19, "unknown key 'befor'; did you mean 'before'?"),
        ('    "zero(z)",\n]', '    "zero(z)",\n]\n[[example]]\ntitle = "t"', 17, "example #1 lacks 'before'"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_file_line_and_what_to_write(
    load: Load, old: str, new: str, line: int, said: str
) -> None:
    assert load(GOOD).code == "MY201"
    assert GOOD.count(old) == 1
    with pytest.raises(RuleError) as error:
        load(GOOD.replace(old, new))
    assert f"my_rule.toml:{line}: " in str(error.value)
    assert said.replace("`", "") in str(error.value).replace("`", "")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('safety = "manual"\n', 1, "a rule needs a `pattern`, or ties"),
        ('safety = "lossy"\n[tie]\nsites = ["x"]\n', 1, "a rule needs a `pattern`, or ties"),
        ('safety = "lossy"\nwhere = ["scalar(s)"]\n[tie]\ntensors = ["x"]\n', 7, "`where` needs a `pattern`"),
        ('safety = "lossy"\n[tie]\ntensors = ["x"]\npolicy = "best"\n', 9, "unknown policy 'best'"),
        ('safety = "lossy"\npattern = "p (x) => (y) { y = Relu (x) }"\n[tie]\ntensors = ["x"]\n', 8, "write `sites`"),
        ('safety = "lossy"\npattern = "p (x) => (y) { y = Relu (x) }"\n[tie]\nsites = ["x", "k"]\n', 9, "'k' is not a variable"),
        ('safety = "lossy"\n[[tie]]\ntensors = ["x"]\n[[tie]]\npolicy = "max"\n', 9, "the tie names no sites"),
        ('safety = "manual"\npattern = "p (x, t) => (y, v) { y = Relu (x) v = Neg (t) }"\n', 7, "shares no variable with the rest"),
        ('safety = "manual"\npattern = "p (xs, x) => (y) { y = Concat (xs, x) }"\nvariadic = ["xs"]\n', 7, "put it last"),
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused(load: Load, text: str, line: int, said: str) -> None:
    with pytest.raises(RuleError) as error:
        load(HEAD + text)
    assert f"my_rule.toml:{line}: " in str(error.value) and said in str(error.value)


def test_a_rule_file_executes_nothing(load: Load) -> None:
    with pytest.raises(RuleError, match="is not a condition"):
        load(GOOD.replace('"zero(z)"', "\"__import__('os').system('true')\""))
    with pytest.raises(RuleError, match="unknown placeholder"):
        load(GOOD.replace("where", 'message = "{x.__class__}"\nwhere'))
