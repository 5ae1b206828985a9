"""`export`: writes ONNX files with Q/DQ from a quantized model, by torch's TorchScript or dynamo exporter."""

from __future__ import annotations

import importlib.util
import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import onnx
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from ...errors import TorchError
from ...extras import install_hint
from ...graph.graph import Graph
from ...graph.selectors import quantizers as known_paths
from ...model.writing.outputs import refuse_to_overwrite
from ...model.writing.texts import write_file
from ...repair.paths import record_paths
from ...repair.rounds import fix
from ...rulekit import catalog
from ..calls.checkpoints import CHECKPOINTS
from ..calls.example import arguments, call_model, example_tensors, flattened_arguments, flattened_outputs, tensor_names
from ..calls.treated import constant_computed_weights
from ..quantizer.fast_paths import without_fast_attention
from ..quantizer.pairing import INTEGER_TYPES, TYPED_OPSET, Encoding, PairWriter, preserve_attributes
from ..quantizer.quantizer import Quantizer, evaluating, isolated_run, quantizers, refuse_meta_tensors
from ..quantizer.wrapped import refuse_wrapped
from .computed import constant_weights
from .paths import name_pairs, separate_quantizers, writer_for

OPSETS = {False: range(13, 21), True: range(18, 21)}
"""The opsets that the TorchScript exporter (False) and the dynamo exporter (True) write: 13 is the first whose pairs
have an axis, 18 the first of the dynamo exporter, 20 the last of the TorchScript exporter."""
OPSET = {False: 17, True: 18}
"""The default opsets; every TensorRT since 8.5 supports 17."""
DUPLICATES = "duplicate-pairs"
"""The rule that merges equal pairs on one tensor: exporters leave such pairs when they merge equal nodes."""
COLOR_CODES = re.compile(r"\x1b\[[0-9;]*m")
MOST_NAMES = 8
"""The most names that a message lists; the others are counted."""


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
    allow_zero: bool = False,
    force: bool = False,
) -> onnx.ModelProto:
    """Writes a model with its quantizers as Q/DQ pairs; the model itself is not changed.

    Weights stay float, before their pairs, as TensorRT reads them: per channel along the axis of their quantizer. A
    half-precision model has half-precision scales without a Cast, from opset 19 on.

    Args:
        model: quantized and calibrated, on any device; a float model is exported as it is.
        example: an input, a tuple of inputs, or a mapping of keyword arguments; inputs may be lists and mappings of
            tensors. The file has fixed shapes, those of the example, except for a dynamic batch.
        path: the file.
        opset: 13 to 20, with the dynamo exporter 18 to 20; None: 17, with the dynamo exporter 18.
        input_names: of every tensor; if they are too few, the names of the forward's parameters are used.
        dynamo: use torch.export instead of tracing.
        dynamic_batch: make the first dimension of every input and output dynamic.
        output_names: of every output, in order; None: the exporter's own.
        uint8: write unsigned quantizers as UINT8, for an engine that supports it; TensorRT rejects it (QDQ402).
        allow_zero: write quantizers that received only zeros with a scale of 1, which keeps zeros: layers whose weights
            are zero before training, and the tensors that they compute.
        force: overwrite an existing file.

    Returns:
        The model that was written.

    Raises:
        TorchError: a quantizer that runs has no usable amax, or an integer type that TensorRT rejects; the opset is not
            supported; the example contains no tensor; the model has tensors on the meta device, or torch cannot export
            it; onnxscript is missing, which the dynamo exporter needs; or the file cannot be written. An error leaves
            no file.
        ModelError: the file exists and `force` is not set, its folder is missing, or it is a folder or a device.
    """
    refuse_to_overwrite(Path(path), force=force)
    inputs = example_tensors(example)
    opset = resolve_opset(opset, dynamo)
    _refuse_unexportable(model, inputs, opset, uint8)
    model_proto = export_proto(
        model,
        example,
        opset=opset,
        dynamo=dynamo,
        input_names=list(input_names)[: len(inputs)] if len(input_names) >= len(inputs) else None,
        output_names=output_names,
        dynamic_batch=dynamic_batch,
        allow_zero=allow_zero,
    )
    if any(node.op_type == "QuantizeLinear" for node in model_proto.graph.node):
        paths = known_paths(Graph(model_proto))
        model_proto = fix(model_proto, [catalog.find(catalog.load(installed=False), DUPLICATES)]).model
        model_proto = record_paths(Graph(model_proto), paths).model
    onnx.checker.check_model(model_proto)
    try:
        content = model_proto.SerializeToString(deterministic=True)
        write_file(Path(path), lambda file: file.write(content))
    except OSError as error:
        raise TorchError(f"{path}: cannot be written: {error.strerror or error}") from error
    return model_proto


def export_proto(
    model: nn.Module,
    example: Any,
    *,
    opset: int,
    dynamo: bool,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_batch: bool = False,
    allow_zero: bool = False,
    writer: PairWriter | None = None,
) -> onnx.ModelProto:
    """The model as torch exports it, with pairs in place of its quantizers; see `export` for the arguments.

    Args:
        writer: writes the pairs; None: a new one.

    Raises:
        TorchError: a quantizer that runs has no usable amax, torch cannot export the model, or the dynamo exporter
            lacks onnxscript.
    """
    refuse_missing_exporter(dynamo)
    refuse_wrapped(model)
    refuse_meta_tensors(model)
    options: dict[str, Any] = {
        "opset_version": opset,
        "input_names": list(input_names or tensor_names(model, example)),
        "output_names": output_names,
    }
    writer = writer or PairWriter(opset, dynamo)
    mode = export_mode(model, example, writer, allow_zero=allow_zero)
    with mode, torch.no_grad(), _without_graph_log(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about shapes that the tracer treats as constants, and deprecated exporters
        try:
            proto = (_export_by_dynamo if dynamo else _export_by_tracing)(model, example, dynamic_batch, options)
        except TorchError:
            raise
        except Exception as error:  # whatever the exporter raises
            raise TorchError(_explain(model, error, dynamo)) from error
    return name_pairs(proto, writer.paths_by_pair)


@contextmanager
def _without_graph_log() -> Iterator[None]:
    """Keeps the TorchScript exporter from printing the whole graph if it fails: it turns its log on even if it is not
    verbose. Source: `setup_onnx_logging` in torch/onnx/_internal/torchscript_exporter/utils.py of torch 2.13."""
    core: Any = torch._C
    log = core._jit_onnx_log
    core._jit_onnx_log = lambda *text: None
    try:
        yield
    finally:
        core._jit_onnx_log = log


def _export_by_dynamo(model: nn.Module, example: Any, dynamic_batch: bool, options: dict[str, Any]) -> onnx.ModelProto:
    args, kwargs = arguments(example)
    if dynamic_batch:
        batch = torch.export.Dim("batch")
        options["dynamic_shapes"] = tree_map(
            lambda x: {0: batch} if isinstance(x, Tensor) and x.dim() else None,  # None: fixed, or not a tensor
            kwargs or args,
        )
    if args and not kwargs and isinstance(args[-1], dict):
        args = (*args, {})  # torch treats a dictionary at the end as keyword arguments
    exported = _with_plain_class(model)
    with flattened_outputs(exported):
        program = torch.onnx.export(exported, args, kwargs=kwargs, dynamo=True, verbose=False, **options)
    assert program is not None
    return program.model_proto


def _with_plain_class(model: nn.Module) -> nn.Module:
    """The model; for a GraphModule a module of another class that shares all of its attributes.

    torch.export runs a GraphModule by an interpreter, which runs no hooks and so no quantizers of calls. The names in
    the graph are the same.
    """
    if not isinstance(model, fx.GraphModule):
        return model
    kind: Any = type(type(model).__name__, (nn.Module,), {"forward": type(model).forward})
    module: nn.Module = kind.__new__(kind)
    module.__dict__ = model.__dict__
    return module


def _export_by_tracing(model: nn.Module, example: Any, dynamic_batch: bool, options: dict[str, Any]) -> onnx.ModelProto:
    if dynamic_batch:
        dynamic_names = (*options["input_names"], *(options["output_names"] or ()))
        options["dynamic_axes"] = {name: {0: "batch"} for name in dynamic_names}
    buffer = io.BytesIO()
    with flattened_arguments(model, example) as inputs:
        torch.onnx.export(model, inputs, cast(Any, buffer), dynamo=False, **options)  # it also accepts a stream
    return onnx.load_from_string(buffer.getvalue())


def _explain(model: nn.Module, error: BaseException, dynamo: bool) -> str:
    """The first line of the exporter's error without colours, and with our advice instead of torch's."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, TorchError):
        return str(error)
    lines = COLOR_CODES.sub("", str(error)).strip().splitlines() or [""]
    advice = f"try the {'TorchScript' if dynamo else 'dynamo'} exporter"
    if any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
        advice = "it contains scripted modules, which no exporter supports inside other modules"
    reason = lines[0].partition("  [Caused by")[0][:300]  # a value of the exporter's own graph
    return f"torch cannot export the model: {type(error).__name__}: {reason}; {advice}"


@contextmanager
def export_mode(model: nn.Module, example: Any, writer: PairWriter, *, allow_zero: bool = False) -> Iterator[None]:
    """Puts the model into eval mode and lets its quantizers write pairs, until the block ends."""
    args, kwargs = arguments(example)
    CHECKPOINTS.enter(identity)  # without gradients a checkpointed function runs once
    try:
        with (
            without_fast_attention(),
            evaluating(model),
            separate_quantizers(model) as found,
            preserve_attributes(found.values(), "_writer", "_encoding"),
            isolated_run(model),
            constant_weights(model),
            constant_computed_weights(model, lambda: call_model(model, "the example", *args, **kwargs)),
        ):
            writer.forget()
            every = found.items()
            zero = [p[0] for p, q in every if q.amax is not None and q.amax.numel() == 1 and not float(q.amax)]
            for paths, quantizer in every:
                quantizer._writer = writer_for(writer, paths, quantizer)
                quantizer._encoding = _encoding_or_error(paths[0], quantizer, zero, allow_zero=allow_zero)
            yield
    finally:
        CHECKPOINTS.leave(identity)


def identity(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself."""
    return function


def _encoding_or_error(
    name: str, quantizer: Quantizer, zero: Sequence[str], *, allow_zero: bool
) -> Encoding | TorchError:
    """A quantizer's encoding, or, if it has none, the error to raise when the quantizer runs.

    Args:
        zero: all quantizers whose amax is 0.
    """
    try:
        return quantizer.encoding(allow_zero=allow_zero)
    except TorchError as error:
        others = [other for other in zero if other != name] if name in zero else []
        more = f"; the same for {shorten_list(others)}" if others else ""
        return TorchError(f"the quantizer {name} cannot be exported: {error}{more}")


def resolve_opset(requested: int | None, dynamo: bool) -> int:
    """The opset that an exporter writes: the requested one, or the default.

    Raises:
        TorchError: the exporter does not write it.
    """
    allowed = OPSETS[dynamo]
    if requested is not None and requested not in allowed:
        which = "the dynamo" if dynamo else "the TorchScript"
        raise TorchError(f"opset {requested}: {which} exporter writes opset {allowed[0]} to {allowed[-1]}")
    return OPSET[dynamo] if requested is None else requested


def refuse_missing_exporter(dynamo: bool) -> None:
    """Refuses an exporter that is not installed.

    Raises:
        TorchError: the dynamo exporter lacks onnxscript.
    """
    if dynamo and importlib.util.find_spec("onnxscript") is None:
        raise TorchError(f"the dynamo exporter needs onnxscript: {install_hint('dynamo')}")


def _refuse_unexportable(model: nn.Module, inputs: Sequence[Tensor], opset: int, uint8: bool) -> None:
    """Refuses what TensorRT or the exporter would reject, before anything runs."""
    half = any(x.dtype in (torch.half, torch.bfloat16) for x in model.parameters())
    half = half or any(x.dtype in (torch.half, torch.bfloat16) for x in inputs)
    if half and opset < TYPED_OPSET:
        raise TorchError(
            f"half precision needs opset {TYPED_OPSET} or later: earlier Q/DQ support only float32, so every "
            "pair would need two Casts"
        )
    found = {n: q for n, q in quantizers(model).items() if not q._disabled}
    odd = {n: q for n, q in found.items() if (q.num_bits, q.unsigned) not in INTEGER_TYPES}
    if odd:
        bits = sorted({q.num_bits for q in odd.values()})
        raise TorchError(f"TensorRT supports only INT8 pairs, not {bits} bits: {shorten_list(odd)}; set num_bits = 8")
    unsigned = [n for n, q in found.items() if q.unsigned]
    if unsigned and not uint8:
        raise TorchError(
            f"TensorRT rejects UINT8 pairs: {shorten_list(unsigned)}; quantize them signed, or export with "
            "uint8=True for another engine"
        )


def shorten_list(names: Iterable[str]) -> str:
    """Names for a message: the first few, and the number of the others."""
    every = list(names)
    more = f" and {len(every) - MOST_NAMES} more" if len(every) > MOST_NAMES else ""
    return ", ".join(every[:MOST_NAMES]) + more
