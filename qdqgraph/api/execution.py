"""The function that compares an engine's numbers with ONNX Runtime's: engine_error."""

from __future__ import annotations

from dataclasses import replace

import onnx.inliner

from ..calibration.data.sources import Data
from ..calibration.statistics.running import DEFAULT_MEMORY
from ..engines.execute.numbers import EngineNumbers, EngineScores, numbers
from ..engines.execute.standalone import standalone
from ..engines.forecast.forecast import forecast
from ..errors import EngineError, ModelError
from ..graph.graph import Graph
from ..targets.target import DEFAULT
from ..verify.scores import Evaluate, run_of, score_of
from . import given
from .call import public
from .engines import forecast_for
from .given import File, Memory, Model, Progress, log_step


@public()
def engine_error(
    model: Model,
    data: Data | None,
    target: str = DEFAULT,
    *,
    folder: File | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    evaluate: Evaluate | None = None,
    memory: Memory = DEFAULT_MEMORY,
    progress: Progress = log_step,
) -> EngineNumbers:
    """Compares the numbers of the engine that TensorRT forms with ONNX Runtime's, as `qdqgraph error --as` does.

    The kernels are those of the forecast. They are computed on the CPU: INT8 kernels with exact INT32 sums and an
    epilogue in FP32, everything else in ONNX Runtime. ONNX Runtime's own numbers are those without graph optimizations.
    The arithmetic is derived from documents and was not verified on a GPU.

    Args:
        model: a quantized model, which is not modified, or its path.
        data: samples of the inputs, as in `fix`.
        target: name of the TensorRT generation, such as "trt-10".
        folder: the folder that contains the external data; the folder of the file by default.
        preprocess: for a folder of pictures: how they become inputs, as `--preprocess`.
        samples: how many of the data to use, the first ones; all by default.
        evaluate: scores a network, as in `error`; the model in ONNX Runtime and as the engine computes it are scored.
        memory: the limit for the memory of the process while it measures, in bytes, or a text such as "2GiB".
        progress: called with one line for each step.

    Returns:
        the differences, the kernel with the largest share of different INT8 values first.

    Raises:
        EngineError: the generation refuses the model; the message names the findings.
        ModelError: the model cannot be read or imported; there are no data, or they do not fit the inputs; the
            generation is unknown; onnxruntime is missing or cannot run the network; or the score is not a number.
    """
    kernels, graph, refused = forecast_for(model, target, folder)
    if refused:
        raise EngineError(f"{refused}\n  so there is no engine to compare with: qdqgraph fix repairs what it can")
    found, place, _ = given.read(model, folder)
    feeds = given.samples(data, found, preprocess, samples)
    if feeds is None:
        raise ModelError("numbers are compared on samples of the model's inputs: give them with --data")
    if graph.model.functions:
        graph = Graph(onnx.inliner.inline_local_functions(graph.model), place, target=graph.target)
        kernels = forecast(graph, kernels.name)
    result = numbers(graph, kernels, feeds, feeds.description, memory=given.byte_count(memory), progress=progress)
    if evaluate is None:
        return result
    progress("scoring the model in ONNX Runtime")
    first = score_of(evaluate, run_of(found, place))
    progress(f"scoring the model as {target} computes it")
    second = score_of(evaluate, run_of(standalone(graph, kernels), place))
    return replace(result, scores=EngineScores(first, second))
