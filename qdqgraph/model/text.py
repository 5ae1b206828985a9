"""A model from ONNX text, and what the parser says against a text."""

from __future__ import annotations

import re

import onnx


def parse(text: str) -> onnx.ModelProto:
    """A model from ONNX text, checked.

    Raises:
        ValueError: the text does not parse, or onnx.checker refuses the model.
    """
    try:
        model: onnx.ModelProto = onnx.parser.parse_model(text)
        onnx.checker.check_model(model)
    except onnx.parser.ParseError as error:
        detail, line = parse_fault(error)
        raise ValueError(f"line {line + 1} of the text: {detail}") from error
    except onnx.checker.ValidationError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return model


def parse_fault(error: onnx.parser.ParseError) -> tuple[str, int]:
    """What onnx.parser says of a text, in one line, and the line of the text that it means, from 0."""
    said = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
    found = re.search(r"line: (\d+)", said)
    detail = said.split("\n")[-1].strip() or said
    context = re.search(r"Error context: (.*)", said)
    near = f" near {context.group(1).strip()!r}" if context else ""
    return detail + near, int(found.group(1)) - 1 if found else 0
