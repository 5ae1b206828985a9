"""The function that measures what the quantization of each part of a model costs at its outputs: sensitivity."""

from __future__ import annotations

import glob
import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx.inliner

from ..calibration.data.sources import Data
from ..calibration.layers.switched import sets_of, switched
from ..engines.forecast.forecast import fused
from ..errors import ModelError, counted
from ..graph.graph import Graph
from ..model import runtime
from ..model.content import content
from ..model.protos import nested
from ..model.writing.outputs import refuse_to_overwrite
from ..model.writing.texts import write_text
from ..repair.options import Options
from ..repair.rounds import stripped
from ..report.examined import examined
from ..rulekit.rule import Rule
from ..verify.scores import Evaluate
from ..verify.sensitivity import BYS, By
from ..verify.sensitivity.levels import cost, gain
from ..verify.sensitivity.measure import Measuring
from ..verify.sensitivity.ranking import Asked, Mode, Sensitivity, UnitRow, ranked
from ..verify.sensitivity.units import Unit, units
from ..versions import Unpack
from . import given
from .accuracy import reference_notes
from .call import public
from .given import File, Model, Progress, log_step
from .measuring import network_of
from .settings import CheckOptions

MODES = ("off", "on", "both")


@public(CheckOptions, plain=True)
def sensitivity(
    model: Model,
    data: Data | None = None,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    by: By = "group",
    mode: Mode = "off",
    evaluate: Evaluate | None = None,
    output: File | None = None,
    force: bool = False,
    folder: File | None = None,
    reference: Model | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    provider: str = "cpu",
    progress: Progress = log_step,
    **settings: Unpack[CheckOptions],
) -> Sensitivity:
    """Measures what the quantization of each unit of a model costs at its outputs, as `qdqgraph sensitivity` does.

    One unit at a time runs in FP32 while the rest is quantized ("off": what that gains), or is quantized while the rest
    runs in FP32 ("on": what it costs). All of this is one session of ONNX Runtime on one graph with switches.

    Args:
        model: a model, which is not modified, or its path.
        data: samples of the inputs, as in `fix`: the SQNR of the outputs is measured on them. None with `evaluate`
            measures scores alone.
        rules: the rules whose ties make the groups; the built-in and installed rules by default.
        select, ignore: run only these of the rules, or not these: codes, prefixes of codes, names or globs.
        options: the settings of a repair, for the groups. They can also be given by name, such as `target="trt-11"`.
        by: what is a unit: "group" (sites that share a scale, with the layers that read them), "block" (a weighted
            layer with what fuses with it), "layer".
        mode: "off", "on", or "both", which runs the network twice as often.
        evaluate: scores a network, which it gets as a function from input arrays to output arrays, both by name;
            higher is better. The units are then ranked by the score.
        output: a JSON file that is written after each unit. An existing one is continued if it is of the same model,
            data and arguments.
        force: start anew if `output` exists.
        folder: the folder that contains the external data; the folder of the file by default.
        reference: the network before quantization, or its path: its weights are exact, those of the model are rounded.
        preprocess: for a folder of pictures: how they become inputs, as `--preprocess`.
        samples: how many of the data to use, the first ones; all by default.
        provider: the device, "cpu" or "cuda".
        progress: called with one line for each step.
        settings: fields of `Options` by name.

    Returns:
        the units, worst first.

    Raises:
        ModelError: the model is not quantized, cannot be read or imported; there are neither data nor a function that
            scores, or the data do not fit the inputs; the output exists and is of another run, or cannot be written;
            the score is not a number; or onnxruntime is missing, or cannot run the network.
        RuleError: `rules` contains an object that is not a rule, or a rule crashed.
        KeyboardInterrupt: with a sentence that says how to go on.
    """
    if by not in BYS or mode not in MODES:
        raise ModelError(f"by is one of {', '.join(BYS)}, and mode one of {', '.join(MODES)}; not {by!r} and {mode!r}")
    path = None if output is None else Path(output)
    if path is not None:
        refuse_to_overwrite(path, force=True)
    found, place, source = given.read(model, folder)
    feeds = given.samples(data, found, preprocess, samples)
    if feeds is None and evaluate is None:
        raise ModelError("units are measured on samples, or by a score: give --data, --eval, or both")
    wanted = given.option_values(options, settings, rules)
    known = examined(found, place, source.name, given.rule_list(rules, select, ignore), wanted)
    graph = known.graph
    if graph.model.functions:
        graph = Graph(onnx.inliner.inline_local_functions(graph.model), place, target=graph.target)
    parts = units(graph, by, known.groups)
    progress("making the graph with switches")
    network = network_of(graph.model, place, reference)
    notes = (*reference_notes(network, reference), _inner_note(graph), runtime.provider(provider)[1])
    asked = Asked(
        model=content(found, place),
        network=network.digest,
        samples="" if feeds is None else feeds.digest,
        score="" if evaluate is None else function_name(evaluate),
        by=by,
        mode=mode,
        target=graph.target.name,
        provider=provider,
    )
    done = None if path is None or force or not path.exists() else _continued(path, asked, parts)
    if done is not None and done.complete:
        return done
    built = switched(graph, network, sets_of(part.layers for part in parts))
    with Measuring(built, feeds, place, evaluate, provider, progress) as measuring:
        if done is None:
            progress("quantized network")
            done = Sensitivity(
                file=source.name,
                asked=asked,
                data="" if feeds is None else feeds.description,
                samples=0 if feeds is None else len(feeds),
                quantized=measuring.level(built.off()),
                unquantized=measuring.unquantized(),
                total=len(parts),
                units=(),
                notes=tuple(filter(None, notes)),
            )
        measured = {row.layers for row in done.units}
        for index, part in enumerate(parts):
            if part.layers in measured:
                continue
            progress(f"unit {len(done.units) + 1} of {len(parts)}: {part.name}")
            try:
                done = _with(done, part, index, measuring, _saved(graph, part) - known.engine.bytes)
                if path is not None:
                    write_text(done.to_json(), path, force=True)
            except KeyboardInterrupt:
                if path is None or not path.exists():
                    raise
                went = f"{len(done.units)} of {counted(len(parts), 'unit')} are in {path}; the same command continues"
                raise KeyboardInterrupt(went) from None
    return done


def _with(done: Sensitivity, part: Unit, index: int, measuring: Measuring, saved: int) -> Sensitivity:
    """A ranking with one more unit, which is measured."""
    mode, graph = done.asked.mode, measuring.graph
    off = None if mode == "on" else measuring.level(graph.off(index))
    on = None if mode == "off" else measuring.level(graph.on(index))
    gained = None if off is None else gain(done.quantized, off)
    costs = None if on is None else cost(done.unquantized, done.quantized, on)
    row = UnitRow(part.name, part.layers, part.nodes, part.sites, saved, gained, costs, off, on)
    return replace(done, units=ranked((*done.units, row)))


def _continued(path: Path, asked: Asked, parts: Sequence[Unit]) -> Sensitivity:
    """The ranking in a file.

    Raises:
        ModelError: it cannot be read, or is of another model, other data or other arguments.
    """
    done = Sensitivity.read(path)
    what = {
        "model": "another model",
        "network": "another float network (--reference)",
        "samples": "other samples",
        "score": "another function of --eval",
        "by": f"--by {done.asked.by}",
        "mode": f"--mode {done.asked.mode}",
        "target": f"--target {done.asked.target}",
        "provider": f"--provider {done.asked.provider}",
    }
    other = next((text for name, text in what.items() if getattr(done.asked, name) != getattr(asked, name)), "")
    if not other and ({row.layers for row in done.units} - {p.layers for p in parts} or done.total != len(parts)):
        other = "other rules, which make other groups"
    if other:
        raise ModelError(f"{path} is of a run with {other}: write to another file, or start anew with --force")
    return done


def _inner_note(graph: Graph) -> str:
    """A sentence on pairs that are never switched; "" if there are none."""
    inner = (n for node in graph.model.graph.node for n in nested(node) if n is not node)
    count = sum(n.op_type == "QuantizeLinear" for n in inner)
    what = f"{counted(count, 'pair')} inside subgraphs of If, Loop or Scan"
    return f"{what} stay quantized in every run, also in float" if count else ""


def _saved(graph: Graph, part: Unit) -> int:
    """Bytes per run of the model with a unit in float, by the forecast."""
    return fused(stripped(graph, tuple(map(glob.escape, part.layers))), "").bytes


def function_name(evaluate: Evaluate) -> str:
    """The name of a function, and the digest of the file that defines it, if there is one."""
    function = inspect.unwrap(evaluate)
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__name__)}"
    try:
        content = Path(inspect.getfile(function)).read_bytes()
    except (TypeError, OSError):
        return name
    return f"{name} {hashlib.sha256(content).hexdigest()}"
