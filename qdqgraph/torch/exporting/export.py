"""ONNX files with Q/DQ from a quantized model, by torch's TorchScript exporter or its dynamo exporter."""

from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import onnx
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from ...errors import TorchError
from ...model.files import whole
from ...repair.rounds import fix
from ...rulekit import catalog
from ..calls.checkpoints import CHECKPOINTS
from ..calls.example import arguments, flat, names, tensors
from ..quantizer.pairing import INTEGERS, TYPED_OPSET, Encoding, Writing, restored
from ..quantizer.quantizer import Quantizer, quantizers, refuse_meta, settled
from ..quantizer.wrapped import refuse
from .computed import constant

OPSETS = {False: range(13, 21), True: range(18, 21)}
"""Opsets of an export, by whether the dynamo exporter writes it: 13 is the first with an axis, 18 the first that the
dynamo exporter writes, 20 the last that TorchScript's does."""
OPSET = {False: 17, True: 18}
"""The opset where none is asked for; 17 serves every TensorRT since 8.5."""
DUPLICATES = "duplicate-pairs"
"""The rule, of exact repairs, for what exporters leave where they make one node of equal ones: its readers' pairs."""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
SHOWN = 8
"""Names that a message lists before it only counts."""


def export(
    model: nn.Module,
    example: Any,
    path: Path | str,
    *,
    opset: int | None = None,
    dynamo: bool = False,
    input_names: Sequence[str] = ("images",),
    output_names: Sequence[str] | None = None,
    dynamic_batch: bool = False,
    uint8: bool = False,
) -> onnx.ModelProto:
    """Writes a model with its quantizers as Q/DQ pairs; the model is left as it was.

    Weights stay float in front of their pairs, as TensorRT reads them: per channel with the axis that their quantizer
    has. A half-precision model gives half-precision scales and no Cast, from opset 19 on.

    Args:
        model: quantized and calibrated, on any device; a float model is exported as it is.
        example: an input, a tuple of inputs, or a mapping of keyword arguments; inputs may be lists and mappings of
            tensors. Shapes are fixed to its own but for a dynamic batch.
        path: where to; a file that is there is replaced.
        opset: 13 to 20, with the dynamo exporter 18 to 20; None: 17, with the dynamo exporter 18.
        input_names: of every tensor; where they are too few, those of the forward's parameters stand.
        dynamo: use torch.export instead of tracing.
        dynamic_batch: leave the first dimension of every input and output open.
        output_names: of every output, in order; None: the exporter's own.
        uint8: write unsigned quantizers as UINT8, for an engine that takes it; TensorRT refuses them (QDQ402).

    Returns:
        The model that was written.

    Raises:
        TorchError: a quantizer that runs has no usable amax, or an integer type that TensorRT refuses; the opset does
            not fit; the example holds no tensor; the model has tensors on the meta device, or torch cannot export it;
            onnxscript is missing, which the dynamo exporter needs; or the file cannot be written. Nothing is written
            then.
    """
    inputs = tensors(example)
    opset = opset_of(opset, dynamo)
    _check(model, inputs, opset, uint8)
    model_proto = traced(
        model,
        example,
        opset=opset,
        dynamo=dynamo,
        input_names=list(input_names)[: len(inputs)] if len(input_names) >= len(inputs) else names(model, example),
        output_names=output_names,
        dynamic_batch=dynamic_batch,
    )
    if any(node.op_type == "QuantizeLinear" for node in model_proto.graph.node):
        model_proto = fix(model_proto, [catalog.find(catalog.load(installed=False), DUPLICATES)]).model
    onnx.checker.check_model(model_proto)
    try:
        with whole(Path(path)) as temporary:
            temporary.write_bytes(model_proto.SerializeToString(deterministic=True))
    except OSError as error:
        raise TorchError(f"{path}: cannot be written: {error.strerror or error}") from error
    return model_proto


def traced(
    model: nn.Module,
    example: Any,
    *,
    opset: int,
    dynamo: bool,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_batch: bool = False,
    writing: Writing | None = None,
) -> onnx.ModelProto:
    """The model as torch exports it, with pairs in the place of its quantizers.

    Raises:
        TorchError: a quantizer that runs has no usable amax, torch cannot export the model, or the dynamo exporter
            lacks onnxscript.
    """
    refuse_missing(dynamo)
    refuse(model)
    refuse_meta(model)
    options: dict[str, Any] = {
        "opset_version": opset,
        "input_names": list(input_names or names(model, example)),
        "output_names": output_names,
    }
    with written(model, writing or Writing(opset, dynamo)), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes that the tracer takes for constants, and of the exporter's age
        try:
            return (_by_dynamo if dynamo else _by_tracing)(model, example, dynamic_batch, options)
        except TorchError:
            raise
        except Exception as error:  # whatever the exporter raises
            raise TorchError(_reason(model, error, dynamo)) from error


def _by_dynamo(model: nn.Module, example: Any, dynamic_batch: bool, options: dict[str, Any]) -> onnx.ModelProto:
    args, kwargs = arguments(example)
    if dynamic_batch:
        batch = torch.export.Dim("batch")
        options["dynamic_shapes"] = tree_map(
            lambda x: {0: batch} if isinstance(x, Tensor) and x.dim() else None,  # None: fixed, or no tensor
            kwargs or args,
        )
    if args and not kwargs and isinstance(args[-1], dict):
        args = (*args, {})  # torch takes a dictionary at the end for keyword arguments
    program = torch.onnx.export(_hooked(model), args, kwargs=kwargs, dynamo=True, verbose=False, **options)
    assert program is not None
    return program.model_proto


def _hooked(model: nn.Module) -> nn.Module:
    """The model, in a form whose hooks torch.export runs.

    A GraphModule it would give to an interpreter, which passes by the hooks and so by the quantizers of calls. Instead
    stands here a plain module that has all the same attributes: the names in the graph are the model's.
    """
    if not isinstance(model, fx.GraphModule):
        return model
    plain: Any = type(type(model).__name__, (nn.Module,), {"forward": type(model).forward})
    stand_in: nn.Module = plain.__new__(plain)
    stand_in.__dict__ = model.__dict__
    return stand_in


def _by_tracing(model: nn.Module, example: Any, dynamic_batch: bool, options: dict[str, Any]) -> onnx.ModelProto:
    if dynamic_batch:
        named = (*options["input_names"], *(options["output_names"] or ()))
        options["dynamic_axes"] = {name: {0: "batch"} for name in named}
    buffer = io.BytesIO()
    with flat(model, example) as inputs:
        torch.onnx.export(model, inputs, cast(Any, buffer), dynamo=False, **options)  # a stream, which it takes
    return onnx.load_from_string(buffer.getvalue())


def _reason(model: nn.Module, error: BaseException, dynamo: bool) -> str:
    """The first line of what went wrong, without colours; torch wraps it in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, TorchError):
        return str(error)
    lines = COLOURS.sub("", str(error)).strip().splitlines() or [""]
    advice = f"try the {'TorchScript' if dynamo else 'dynamo'} exporter"
    if any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
        advice = "it holds scripted modules, which no exporter takes inside of others"
    return f"torch cannot export the model: {type(error).__name__}: {lines[0][:300]}; {advice}"


@contextmanager
def written(model: nn.Module, writing: Writing) -> Iterator[None]:
    """The model in eval mode, with quantizers that write pairs; afterwards as it was."""
    modes = {m: m.training for m in model.modules()}
    found = quantizers(model)
    model.eval()
    CHECKPOINTS.enter(through)  # without gradients, what would run again runs as it is
    attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operator for a whole layer, which ONNX has none for
    try:
        with restored(found.values(), "_writing", "_grid"), settled(model), constant(model):
            for name, quantizer in found.items():
                quantizer._writing, quantizer._grid = writing, _grid(name, quantizer)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(attention)
        CHECKPOINTS.leave(through)
        for module, training in modes.items():
            module.training = training


def through(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself."""
    return function


def _grid(name: str, quantizer: Quantizer) -> Encoding | TorchError:
    """What a quantizer rounds to, or why it cannot be exported, for the case that it runs."""
    try:
        return quantizer.grid()
    except TorchError as error:
        return TorchError(f"the quantizer {name} cannot be exported: {error}")


def opset_of(asked: int | None, dynamo: bool) -> int:
    """The opset that an exporter is to write.

    Raises:
        TorchError: it does not write the one that is asked for.
    """
    allowed = OPSETS[dynamo]
    if asked is not None and asked not in allowed:
        which = "the dynamo" if dynamo else "the TorchScript"
        raise TorchError(f"opset {asked}: {which} exporter writes opset {allowed[0]} to {allowed[-1]}")
    return OPSET[dynamo] if asked is None else asked


def refuse_missing(dynamo: bool) -> None:
    """Refuses an exporter that is not installed.

    Raises:
        TorchError: the dynamo exporter lacks onnxscript.
    """
    if dynamo and importlib.util.find_spec("onnxscript") is None:
        raise TorchError("the dynamo exporter needs onnxscript: pip install 'qdqgraph[dynamo]'")


def _check(model: nn.Module, inputs: Sequence[Tensor], opset: int, uint8: bool) -> None:
    """Refuses what TensorRT or the exporter would refuse, before anything runs."""
    half = any(x.dtype in (torch.half, torch.bfloat16) for x in model.parameters())
    half = half or any(x.dtype in (torch.half, torch.bfloat16) for x in inputs)
    if half and opset < TYPED_OPSET:
        raise TorchError(
            f"half precision needs opset {TYPED_OPSET} or later: earlier pairs take float32 alone, so every pair "
            "would stand between two Casts"
        )
    found = {n: q for n, q in quantizers(model).items() if not q._disabled}
    odd = {n: q for n, q in found.items() if (q.num_bits, q.unsigned) not in INTEGERS}
    if odd:
        bits = sorted({q.num_bits for q in odd.values()})
        raise TorchError(f"TensorRT has INT8 pairs alone, not {bits} bits: {listed(odd)}; give them num_bits = 8")
    unsigned = [n for n, q in found.items() if q.unsigned]
    if unsigned and not uint8:
        raise TorchError(
            f"TensorRT refuses UINT8 pairs: {listed(unsigned)}; quantize them signed, or export with uint8=True for "
            "another engine"
        )


def listed(names: Mapping[str, Quantizer] | Sequence[str]) -> str:
    """Names for a message: the first few, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more
