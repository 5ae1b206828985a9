"""Sixty broken rules, text and Python, each with the message that it gets: what, where, what to write."""

from pathlib import Path

import pytest

from qdqgraph import Options, RuleError, check
from qdqgraph.rulekit import catalog
from tests.support.models import build

HEAD = """code = "MY201"
name = "my-rule"
summary = "S."
why = "W."
source = ["s"]
safety = "lossy"
"""
PATTERN = 'pattern = "p (x) => (y) { y = Relu (x) }"\n'
REWRITE = 'rewrite = "r (x) => (y) { y = Abs (x) }"\n'
TESTS = '[[example]]\ntitle = "a"\nbefore = "b"\n[[counterexample]]\ntitle = "c"\nmodel = "d"\n'
TIE = '[tie]\ntensors = ["x"]\n'


def changed(line: str, by: str = "") -> str:
    return HEAD.replace(line + "\n", by + "\n" if by else "")


TEXT = [
    (changed('code = "MY201"'), "r.toml:1: the file lacks 'code'"),
    (changed('code = "MY201"', "code = 201"), "r.toml:1: code must be a string"),
    (changed('code = "MY201"', 'code = "MY901"'), "r.toml:1: code is 'MY901'; write, for example, 'MY201'"),
    (changed('name = "my-rule"', 'name = "My Rule"'), "r.toml:2: name is 'My Rule'"),
    (changed('summary = "S."', "summary = 3"), "r.toml:3: summary must be a string"),
    (changed('why = "W."', 'wy = "W."'), "r.toml:4: unknown key 'wy'; did you mean 'why'?"),
    (changed('source = ["s"]', 'source = "s"'), "r.toml:5: source must be an array of strings"),
    (changed('safety = "lossy"', 'safety = "safe"'), "r.toml:6: safety is 'safe'; write one of exact, lossy, manual"),
    (HEAD + 'severity = "fatal"\n', "r.toml:7: severity is 'fatal'; write one of error, warning"),
    (HEAD + "pattern =\n", "r.toml:7: this is not valid TOML"),
    (HEAD, "a rule needs a `pattern`, or ties"),
    (HEAD + REWRITE + TIE, "r.toml:7: `rewrite` needs a `pattern`"),
    (HEAD + 'pattern = "Relu"\n' + TESTS, "r.toml:7: this is not ONNX function text"),
    (HEAD + PATTERN.replace("Relu", "Relou") + TESTS, "r.toml:7: ONNX has no operator 'Relou'; did you mean 'Relu'?"),
    (HEAD + PATTERN.replace("(x) }", "(w) }") + TESTS, "r.toml:7: variable 'w' is not defined"),
    (HEAD + PATTERN.replace("(x) =>", "(x, k) =>") + TESTS, "r.toml:7: parameter 'k' is never used: remove it"),
    (HEAD + PATTERN.replace("=> (y)", "=> (v)") + TESTS, "r.toml:7: no node of the function produces output 'v'"),
    (HEAD + PATTERN.replace("y = Relu (x)", "y = Relu (x) y = Abs (x)") + TESTS, "variable 'y' is defined twice"),
    (HEAD + PATTERN + TESTS, "safety is 'lossy', but the rule proposes nothing: write manual"),
    (HEAD + PATTERN + REWRITE.replace("=> (y)", "=> (v)").replace("y =", "v =") + TESTS, "r.toml:8: the outputs of pattern and rewrite differ"),
    (HEAD + PATTERN + REWRITE.replace("(x)", "(k)") + TESTS, "r.toml:8: the parameters of pattern and rewrite differ: k"),
    (HEAD + PATTERN + REWRITE + 'where = ["scaler(x)"]\n' + TESTS, "r.toml:9: "),
    (HEAD + PATTERN + REWRITE + 'where = ["scalar(k)"]\n' + TESTS, "r.toml:9: "),
    (HEAD + PATTERN + REWRITE + 'optional = ["k"]\n' + TESTS, "optional names 'k', which is not a variable of the pattern"),
    (HEAD + PATTERN + REWRITE + 'at = "x"\n' + TESTS, "r.toml:9: at names the parameter 'x'"),
    (HEAD + PATTERN + REWRITE + 'message = "{k}"\n' + TESTS, "r.toml:9: "),
    (HEAD + PATTERN + REWRITE + "[tie]\nsites = [\"x\"]\n" + TESTS, "a rule has a `rewrite` or ties, not both"),
    (HEAD + PATTERN + "[tie]\ntensors = [\"x\"]\n" + TESTS, "this tie is next to a pattern: write `sites`"),
    (HEAD + PATTERN + "[tie]\nsites = [\"k\"]\n" + TESTS, "'k' is not a variable of the pattern"),
    (HEAD + TIE.replace('["x"]', '"x"'), "r.toml:8: tie tensors must be an array of strings"),
    (HEAD + TIE.replace("tensors", "tensor"), "r.toml:8: unknown key 'tensor'; did you mean 'tensors'?"),
    (HEAD + TIE + 'max_bits_lost = "1"\n', "r.toml:9: tie max_bits_lost must be a number"),
    (HEAD + TIE + "required = 1\n", "r.toml:9: tie required must be true or false"),
    (HEAD + TIE + 'policy = "maximum"\n', "r.toml:9: unknown policy 'maximum'"),
    (HEAD + "tie = 3\n", "r.toml:7: tie must be"),
    (HEAD + "[[tie]]\ntensors = [\"x\"]\n[[tie]]\ntensor = [\"x\"]\n", "unknown key 'tensor'; did you mean 'tensors'?"),
    (HEAD + PATTERN + REWRITE, "rule MY201 needs at least one example and one counterexample"),
    (HEAD + PATTERN + REWRITE + TESTS.replace("before", "befor"), "unknown key 'befor'; did you mean 'before'?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), TEXT, ids=[str(i) for i in range(len(TEXT))])
def test_a_broken_text_rule(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "r.toml"
    file.write_text(text)
    with pytest.raises(RuleError) as error:
        catalog.load([file], builtin=False, installed=False)
    assert said in str(error.value) and "r.toml" in str(error.value)


PYTHON = '''from qdqgraph.rulekit import *

class R(Rule):
    """S."""
    code, name, safety = "MY201", "r", Safety.LOSSY
    examples = [Example("a", ""), Counterexample("b", "")]

    def find(self, graph):
        node = graph.nodes("Relu")[0]
        BODY
'''
LOADING = [
    (PYTHON.replace("import *", "import Rulee"), "the rule file does not load: ImportError"),
    (PYTHON.replace("class R", "raise SystemExit(3)\nclass R"), "the rule file does not load: SystemExit: 3"),
    (PYTHON.replace('"MY201", ', '"X", '), "code 'X': write letters, a band from 1 to 4"),
    (PYTHON.replace('"r", ', '"R r", '), "name 'R r': write lower-case words joined by hyphens"),
    (PYTHON.replace("Safety.LOSSY", '"lossy"'), "safety is 'lossy'; write one of"),
    (PYTHON.replace('    """S."""\n', ""), "class R has no docstring"),
    (PYTHON.replace("    examples =", "    example ="), "class R has no 'examples'"),
    (PYTHON.replace("def find", "def found"), "class R cannot be used: TypeError"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), LOADING, ids=[said for _, said in LOADING])
def test_a_python_rule_that_does_not_load(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "r.py"
    file.write_text(text.replace("BODY", "yield from ()"))
    with pytest.raises(RuleError) as error:
        catalog.load([file], builtin=False, installed=False)
    assert said in str(error.value) and "r.py" in str(error.value)


BODIES = [
    ("return [1]", "find yields 1; write: yield self.finding(node, message)"),
    ("return 'text'", "find returns 'text'"),
    ("raise SystemExit(1)", "crashed at"),
    ("yield self.finding(node, 'm', hlep='h')", "unexpected keyword argument 'hlep'"),
    ("yield self.finding(node, 'm', place='nowhere')", "the place of a finding is 'nowhere', which is not a tensor"),
    ("yield self.finding(node, 'm', tie=Tie(('r', 'rr')))", "a Tie names 'rr', which is not a tensor of the model"),
    ("yield self.finding(node, 'm', tie=Tie('r'))", "the sites of a Tie are 'r'; write a tuple: ('r',)"),
    ("yield self.finding(node, 'm', tie=('r',))", "tie is ('r',); write tie=Tie(sites)"),
    ("yield self.finding(node, 'm', tie=Tie(('r',), 'biggest'))", "a Tie has an unknown policy 'biggest'"),
    ("yield self.finding(node, 'm', tie=Tie(('r',), 'anchor:no'))", "the model has no tensor 'no'"),
    ("yield self.finding(node, 'm', tie=Tie(('r',)), edits=[Rewire((key(node), 0), 'x')])", "yield two findings"),
    ("yield self.finding(node, 'm', edits=Rewire((key(node), 0), 'x'))", "write a list: edits=[…]"),
    ("yield self.finding(node, 'm', edits='x')", "edits is 'x'; write a list"),
    ("yield self.finding(node, 'm', edits=['x'])", "an edit is 'x'; write Rewire(…)"),
    ("yield self.finding(node, 'm', edits=[Rewire((key(node), 0), 'xx')])", "a Rewire names 'xx', which is not a tensor"),
    ("yield self.finding(node, 'm', edits=[Rewire((key(node), 7), 'x')])", "has no input 7: it has 1 input"),
    ("yield self.finding(node, 'm', edits=[Rewire(key(node), 'x')])", "is not a node input; write reader.key"),
    ("yield self.finding(node, 'm', edits=[PlacePair('x', 'y')])", "the readers of a PlacePair are 'y'; write a tuple"),
    ("yield self.finding(node, 'm', edits=[SetPair(('zz',), 1, 2)])", "SetPair: no node has the first output 'zz'"),
    ("yield self.finding(node, 'm', edits=[Retype((key(node), 0), 999)])", "a Retype names the type 999"),
    ("yield self.finding(node, 'm', edits=[replace([node], [make_node('Abs', ['no'], 'r')])])", "the new Abs consumes 'no'"),
    ("yield self.finding(node, 'm', edits=[replace([node], [])])", "replace() removes the producer of 'r'"),
    ("yield self.finding(node, 'm', bytes='many')", "bytes is 'many'; write the number of bytes"),
    ("yield self.finding(node, 3)", "message and help are text, not 3"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "said"), BODIES, ids=[body for body, _ in BODIES])
def test_a_python_rule_that_proposes_nonsense(tmp_path: Path, body: str, said: str) -> None:
    """Each message has the file and the line of the rule."""
    file = tmp_path / "r.py"
    file.write_text(PYTHON.replace("BODY", body))
    rules = catalog.load([file], builtin=False, installed=False)
    model = build(
        "g (float[2] x) => (float[2] y) { r = Relu (x) q = QuantizeLinear (r, s1) y = DequantizeLinear (q, s1) }"
    )
    with pytest.raises(RuleError) as error:
        check(model, rules, Options())
    message = str(error.value)
    assert said in message and f"{file}" in message and "MY201" in message
    assert f"{file}:10" in message or body.startswith("return")
