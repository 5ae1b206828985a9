"""The function that measures what quantization costs at each layer: error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import onnx.inliner

from ..calibration.data.samples import Samples
from ..calibration.data.sources import Data
from ..calibration.statistics.floating import FloatModel
from ..calibration.statistics.measure import measure
from ..calibration.statistics.running import DEFAULT_MEMORY
from ..calibration.statistics.sites import sites_of
from ..errors import ModelError
from ..graph.graph import Graph
from ..graph.pair import pairs
from ..model import runtime
from ..model.content import content
from ..repair.options import Options
from ..report.checked import Checked
from ..report.examined import examined
from ..report.histograms import Values, histograms
from ..rulekit.rule import Rule
from ..verify.layers import Accuracy, Scores, accuracy
from ..verify.scores import Evaluate, run_of, score_of
from ..versions import Unpack
from . import given
from .call import public
from .given import File, Memory, Model, Progress, log_step
from .measuring import network_of
from .settings import CheckOptions


@public(CheckOptions, plain=True)
def error(
    model: Model,
    data: Data | None,
    rules: Sequence[Rule] | None = None,
    options: Options | None = None,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    folder: File | None = None,
    reference: Model | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    evaluate: Evaluate | None = None,
    memory: Memory = DEFAULT_MEMORY,
    provider: str = "cpu",
    progress: Progress = log_step,
    **settings: Unpack[CheckOptions],
) -> Accuracy:
    """Measures the error of each layer of a quantized model against its float network, as `qdqgraph error` does.

    A layer is a node that reads an activation through a Q/DQ pair. The float network is the model with its pairs
    bypassed.

    Args:
        model: a model, which is not modified, or its path.
        data: samples of the inputs, as in `fix`.
        rules: the rules whose findings are listed beside the layers; the built-in and installed rules by default.
        select, ignore: run only these of the rules, or not these: codes, prefixes of codes, names or globs.
        options: the settings of a repair, for the findings. They can also be given by name, such as `target="trt-11"`.
        folder: the folder that contains the external data; the folder of the file by default.
        reference: the network before quantization, or its path: its weights are exact, those of the model are rounded.
        preprocess: for a folder of pictures: how they become inputs, as `--preprocess`.
        samples: how many of the data to use, the first ones; all by default.
        evaluate: scores a network, which it gets as a function from input arrays to output arrays, both by name;
            higher is better. The float network and the model are scored.
        memory: the limit for the memory of the process while it measures, in bytes, or a text such as "2GiB".
        provider: the device, "cpu" or "cuda".
        progress: called with one line for each step.
        settings: fields of `Options` by name.

    Returns:
        the layers, worst first.

    Raises:
        ModelError: the model is not quantized, cannot be read or imported, or no layer can be compared; there are no
            data, or they do not fit the inputs; the reference has none of the model's weights; onnxruntime is missing,
            or cannot run the network; or the score is not a number.
        RuleError: `rules` contains an object that is not a rule, or a rule crashed.
    """
    return checked_error(
        model,
        data,
        given.rule_list(rules, select, ignore),
        given.option_values(options, settings, rules),
        folder=folder,
        reference=reference,
        preprocess=preprocess,
        samples=samples,
        evaluate=evaluate,
        memory=memory,
        provider=provider,
        progress=progress,
    )[0]


def checked_error(
    model: Model,
    data: Data | None,
    rules: Sequence[Rule],
    options: Options,
    *,
    folder: File | None = None,
    reference: Model | None,
    preprocess: str | None,
    samples: int | None,
    evaluate: Evaluate | None,
    memory: Memory,
    provider: str,
    progress: Progress,
    values: bool = False,
) -> tuple[Accuracy, Checked, Mapping[str, Values]]:
    """Returns what `error` returns, and what `check` returns for the model, which is read and examined once; with
    `values` also the values of the sites of its pairs, which take one more pass over the samples."""
    found, place, source = given.read(model, folder)
    feeds = given.samples(data, found, preprocess, samples)
    if feeds is None:
        raise ModelError("errors are measured on samples of the model's inputs: give them with --data")
    known = examined(found, place, source.name, rules, options)
    graph = known.graph
    if graph.model.functions:
        graph = Graph(onnx.inliner.inline_local_functions(graph.model), place)
    progress("making the float network")
    network = network_of(graph.model, place, reference)
    notes = reference_notes(network, reference)
    costs = {name: layer.bytes for layer in known.engine.layers if not layer.cause for name in layer.nodes}
    result = accuracy(
        graph,
        network,
        feeds,
        feeds.description,
        known.groups,
        findings=known.findings,
        costs=costs,
        provider=provider,
        memory=given.byte_count(memory),
        progress=progress,
    )
    notes = (*notes, runtime.provider(provider, "the comparison of the layers")[1])
    scores = None if evaluate is None else _scores(evaluate, found, network, place, provider, progress)
    result = replace(result, notes=tuple(filter(None, notes)), scores=scores, model=content(found, place))
    shown = _values(graph, network, feeds, given.byte_count(memory), provider, progress) if values else {}
    return result, Checked(str(source), known.findings, known), shown


def _values(
    graph: Graph, network: FloatModel, feeds: Samples, memory: int, provider: str, progress: Progress
) -> Mapping[str, Values]:
    """The values of the sites of activation pairs in the float network, by name."""
    usable = set(sites_of(network))
    sites = {p.site: network.tensor(p.site) for p in pairs(graph) if p.kind == "activation"}
    sites = {site: name for site, name in sites.items() if name in usable}
    if not sites:
        return {}
    found = measure(network, feeds, tuple(sites.values()), memory=memory, provider=provider, progress=progress)
    return histograms({site: found[name] for site, name in sites.items()})


def _scores(
    evaluate: Evaluate,
    model: onnx.ModelProto,
    network: FloatModel,
    folder: Path,
    provider: str,
    progress: Progress,
) -> Scores:
    """The scores of the float network and of the model."""
    progress("scoring the float network")
    first = score_of(evaluate, run_of(network.model, folder, provider))
    progress("scoring the model")
    return Scores(first, score_of(evaluate, run_of(model, folder, provider)))


def reference_notes(network: FloatModel, reference: Model | None) -> tuple[str, ...]:
    """Returns what to know of the reference.

    Raises:
        ModelError: it has none of the weights.
    """
    stored, unknown = len(network.weights), len(network.unmatched)
    if reference is None:
        return ()
    if not stored:
        return ("the model stores its weights as floats, so the reference was not needed",)
    if unknown == stored:
        raise ModelError(
            f"the reference contains none of the {stored} quantized weights of the model: "
            "give the float network that the model was quantized from, with its BatchNormalizations folded if they are "
            "folded in the model"
        )
    if unknown:
        return (
            f"the reference does not contain {unknown} of {stored} weights, so their rounded values were used: "
            f"{', '.join(network.unmatched[:3])}{', …' if unknown > 3 else ''}",
        )
    return ()
