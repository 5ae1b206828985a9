"""The keys of a text rule's file, typed: `TextRule` reads them, and `rule.schema.json` is generated from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from ...graph.selectors import KINDS
from ..naming import CODE, NAME, OPERATOR
from ..policy import usages

SCHEMA = Path(__file__).with_name("rule.schema.json")
"""The JSON Schema of `RuleForm`, for editors: the first line of a rule file, `#:schema PATH`, refers to it."""

Text = Annotated[str, Meta(min_length=1)]
Names = Annotated[tuple[Text, ...], Meta(min_length=1)]
Operator = Annotated[str, Meta(pattern=f"^{OPERATOR}$", examples=["acme.QuantConv"])]
Category = Annotated[str, Meta(pattern=r"^@.+$", examples=["@moves"])]


class TieTable(Struct, frozen=True, forbid_unknown_fields=True):
    """Sites that must have one scale"""

    sites: Annotated[Names, Meta(description="Variables of the pattern; a variadic one means all its tensors.")] = ()
    tensors: Annotated[Names, Meta(description="Tensors by name or glob.")] = ()
    inputs_of: Annotated[Names, Meta(description="All that the named nodes read, by name or glob.")] = ()
    outputs_of: Annotated[Names, Meta(description="All that the named nodes produce, by name or glob.")] = ()
    quantizers: Annotated[
        Names,
        Meta(description="PyTorch paths of activation quantizers, or of modules that contain them, by name or glob."),
    ] = ()
    policy: Annotated[Text, Meta(description=f"The scale of the group: {usages()}.")] = ""
    max_bits_lost: (
        Annotated[float, Meta(ge=0, description="Refuse the tie if a tensor would lose more bits.")] | UnsetType
    ) = UNSET
    required: Annotated[bool, Meta(description="Whether a name that matches nothing stops the run (default true).")] = (
        True
    )

    def named(self) -> list[tuple[str, int, str]]:
        """The sites that the file lists by name: one of `KINDS`, the index in its list, and the name or glob."""
        return [(kind, index, name) for kind in KINDS for index, name in enumerate(getattr(self, kind))]


class ExampleTable(Struct, frozen=True, forbid_unknown_fields=True):
    """A model on which the rule reports a finding"""

    title: Text
    before: Annotated[Text, Meta(description="The model as exported, in ONNX text.")]
    after: Annotated[Text, Meta(description="The model after `fix` with this rule; omitted if nothing is applied.")] = (
        ""
    )


class CounterexampleTable(Struct, frozen=True, forbid_unknown_fields=True):
    """A model on which the rule reports nothing"""

    title: Text
    model: Annotated[Text, Meta(description="The model, in ONNX text.")]


class RuleForm(Struct, frozen=True, forbid_unknown_fields=True):
    """A qdqgraph text rule"""

    code: Annotated[
        str,
        Meta(
            pattern=f"^{CODE}$",
            examples=["MY201"],
            description="Letters and three digits: 1xx scales, 2xx placement, 3xx fusion, 4xx legality. Never reused.",
        ),
    ]
    name: Annotated[
        str,
        Meta(
            pattern=f"^{NAME}$",
            examples=["repeated-pair"],
            description="Names the problem, in kebab-case: repeated-pair.",
        ),
    ]
    summary: Annotated[Text, Meta(description="One sentence: what is wrong. Ends with a full stop.")]
    why: Annotated[Text, Meta(description="What TensorRT does, and what it costs.")]
    safety: Annotated[
        Literal["exact", "lossy", "manual"],
        Meta(
            description="exact: bit-identical in ONNX Runtime. lossy: within quantization noise. manual: reported only."
        ),
    ]
    when_not: Annotated[Text, Meta(description="When a user should not want the repair.")] = ""
    source: Annotated[Names, Meta(description="Where this is documented: links, or what was measured.")] = ()
    quantized: Annotated[
        tuple[Operator, ...],
        Meta(
            min_length=1,
            description="Operators that count as quantized because this rule handles them, besides Q/DQ pairs: "
            "acme.QuantConv of one domain, QuantConv of any; globs are allowed.",
        ),
    ] = ()
    severity: Annotated[Literal["error", "warning"], Meta(description="error if TensorRT refuses the graph.")] = (
        "warning"
    )
    message: Annotated[
        Text,
        Meta(
            description="What is wrong here; {x} is the tensor of variable x. "
            "{s.value}, {x.shape}, {x.bytes}, {x.count}, {x.dtype}, {x.op}, {tie.scales}."
        ),
    ] = ""
    help: Annotated[str, Meta(description="What to do; placeholders as in message.")] = ""
    at: Annotated[
        Text,
        Meta(description="The variable whose tensor is the place of a finding; by default the pattern's first output."),
    ] = ""
    cost: Annotated[Text, Meta(description="The variable whose size in bytes, as float, the defect costs.")] = ""
    pattern: Annotated[
        Text,
        Meta(description="An ONNX function: parameters are free variables, outputs are tensors that must remain."),
    ] = ""
    rewrite: Annotated[Text, Meta(description="An ONNX function of the same signature that replaces the pattern.")] = ""
    compute: Annotated[
        Mapping[str, Text],
        Meta(
            description='Constants that the rewrite reads, by expressions of captured constants: t = "s * c". '
            "+ - * / **, numbers, abs, sqrt, round, min, max, largest."
        ),
    ] = {}
    where: Annotated[Names, Meta(description="Conditions from the closed list, all of which must hold.")] = ()
    optional: Annotated[Names, Meta(description="Variables of inputs that may be absent.")] = ()
    variadic: Annotated[
        Names,
        Meta(description="Variables that mean all remaining inputs, or all outputs, of an operator."),
    ] = ()
    ops: Annotated[
        Mapping[str, Category | Names],
        Meta(
            description='Names for several operators, usable in the pattern: Act = ["Relu", "Clip"]; or for a category '
            'of the table of operators: Move = "@moves". An array may contain both.'
        ),
    ] = {}
    tie: Annotated[
        TieTable | Annotated[tuple[TieTable, ...], Meta(min_length=1)],
        Meta(description="Sites that must have one scale: [tie], or [[tie]] for several groups."),
    ] = ()
    example: Annotated[
        tuple[ExampleTable, ...],
        Meta(min_length=1, description="Models on which the rule reports a finding; they are its tests."),
    ] = ()
    counterexample: Annotated[
        tuple[CounterexampleTable, ...],
        Meta(min_length=1, description="Models on which the rule reports nothing."),
    ] = ()
