"""Replaces the package tensorrt on a machine without a GPU: an engine is the ONNX file, ONNX Runtime runs it.

GPU memory is memory of this process, at real addresses: what is not copied there or back is missing in the result. The
inspector answers with the recorded layers of the file that the variable REPLAY_LAYERS names.
"""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx

__version__ = "10.9.0"
PROFILE = "optimal shapes"


class Cuda:
    """The calls of the CUDA runtime that are used; `refuses` names one that reports an error."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses = refuses
        self.held: dict[int, Any] = {}

    def _answer(self, name: str) -> int:
        return 2 if name == self.refuses else 0

    def cudaMalloc(self, place: Any, size: ctypes.c_size_t) -> int:  # noqa: N802
        block = ctypes.create_string_buffer(b"\xff" * size.value, size.value)
        place._obj.value = ctypes.addressof(block)
        self.held[place._obj.value] = block
        return self._answer("cudaMalloc")

    def cudaMemset(self, place: ctypes.c_void_p, byte: int, size: ctypes.c_size_t) -> int:  # noqa: N802
        ctypes.memset(place, byte, size.value)
        return 0

    def cudaMemcpy(self, to: ctypes.c_void_p, source: ctypes.c_void_p, size: ctypes.c_size_t, kind: int) -> int:  # noqa: N802
        device = to if kind == 1 else source
        assert device.value in self.held and size.value <= len(self.held[device.value]), "not memory of the GPU"
        ctypes.memmove(to, source, size.value)
        return self._answer("cudaMemcpy")

    def cudaFree(self, place: ctypes.c_void_p) -> int:  # noqa: N802
        assert place.value is not None
        del self.held[place.value]
        return 0

    def cudaDeviceSynchronize(self) -> int:  # noqa: N802
        return self._answer("cudaDeviceSynchronize")


class Settings:
    """Flags and settings that are set and not asked for."""

    def __getattr__(self, name: str) -> Any:
        return Settings()

    def __call__(self, *given: object, **named: object) -> Any:
        return Settings()

    def __int__(self) -> int:
        return 0


class ILogger:
    ERROR, WARNING = 1, 2


class Logger(ILogger):
    def __init__(self, severity: int) -> None:
        self.severity = severity


class IProfiler:
    """Gets the time of each layer."""


class TensorIOMode:
    INPUT, OUTPUT = "input", "output"


class DataType:
    def __init__(self, kind: int) -> None:
        self.type = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))
        self.itemsize = self.type.itemsize


def nptype(kind: DataType) -> type:
    return kind.type.type


class Profile(dict[str, tuple[int, ...]]):
    def set_shape(self, name: str, least: tuple[int, ...], optimal: tuple[int, ...], most: tuple[int, ...]) -> None:
        self[name] = tuple(optimal)


class Config(Settings):
    def __init__(self) -> None:
        self.profiles: list[Profile] = []

    def add_optimization_profile(self, profile: Profile) -> None:
        self.profiles.append(profile)


class Input(Settings):
    is_shape_tensor = False

    def __init__(self, name: str) -> None:
        self.name = name


class Network:
    model = onnx.ModelProto()

    @property
    def num_inputs(self) -> int:
        return len(self.model.graph.input)

    def get_input(self, index: int) -> Input:
        return Input(self.model.graph.input[index].name)


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Network, log: ILogger) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        self.network.model = onnx.load(path)
        return True


class Builder:
    def __init__(self, log: ILogger) -> None:
        pass

    def create_network(self, flags: int) -> Network:
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes:
        onnx.helper.set_model_props(network.model, {PROFILE: json.dumps(config.profiles)})
        return network.model.SerializeToString()


class Inspector(Settings):
    def get_engine_information(self, form: object) -> str:
        return Path(os.environ["REPLAY_LAYERS"]).read_text(encoding="utf-8")


class Engine:
    def __init__(self, blob: bytes) -> None:
        self.model = onnx.load_from_string(blob)
        graph = self.model.graph
        self.ends = {value.name: value.type.tensor_type for value in (*graph.input, *graph.output)}
        self.num_io_tensors = len(self.ends)
        self.profiles = json.loads(next(p.value for p in self.model.metadata_props if p.key == PROFILE))

    def get_tensor_name(self, index: int) -> str:
        return list(self.ends)[index]

    def get_tensor_mode(self, name: str) -> str:
        return TensorIOMode.INPUT if name in {i.name for i in self.model.graph.input} else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(d.dim_value if d.dim_value > 0 else -1 for d in self.ends[name].shape.dim)

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [tuple(self.profiles[index][name])] * 3

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType(self.ends[name].elem_type)

    def create_execution_context(self) -> Context:
        return Context(self)

    def create_engine_inspector(self) -> Inspector:
        return Inspector()


class Context:
    profiler: Any = None

    def __init__(self, engine: Engine) -> None:
        import onnxruntime

        self.engine, self.places, self.shapes = engine, dict[str, int](), dict[str, tuple[int, ...]]()
        self.session = onnxruntime.InferenceSession(
            engine.model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        self.runs = 0

    def set_input_shape(self, name: str, dims: tuple[int, ...]) -> None:
        self.shapes[name] = tuple(dims)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if self.engine.get_tensor_mode(name) == TensorIOMode.INPUT:
            return self.shapes.get(name, self.engine.get_tensor_shape(name))
        zeros = {
            i.name: np.zeros(self.get_tensor_shape(i.name), self._type(i.name)) for i in self.engine.model.graph.input
        }
        return tuple(np.shape(self.session.run([name], zeros)[0]))

    def set_tensor_address(self, name: str, place: int) -> None:
        self.places[name] = place

    def execute_async_v3(self, stream: int) -> bool:
        feeds = {i.name: self._array(i.name).copy() for i in self.engine.model.graph.input}
        names = [o.name for o in self.engine.model.graph.output]
        for name, values in zip(names, self.session.run(names, feeds), strict=True):
            self._array(name)[...] = values
        self.runs += 1
        if self.profiler is not None:
            for layer in json.loads(Path(os.environ["REPLAY_LAYERS"]).read_text(encoding="utf-8"))["Layers"]:
                self.profiler.report_layer_time(layer["Name"], 0.5)
        return True

    def _type(self, name: str) -> Any:
        return self.engine.get_tensor_dtype(name).type

    def _array(self, name: str) -> np.ndarray:
        """The array at the address of a tensor."""
        dims, kind = self.get_tensor_shape(name), self._type(name)
        block = (ctypes.c_char * (int(np.prod(dims)) * kind.itemsize)).from_address(self.places[name])
        return np.frombuffer(block, kind).reshape(dims)


class Runtime:
    def __init__(self, log: ILogger) -> None:
        pass

    def deserialize_cuda_engine(self, blob: bytes) -> Engine:
        return Engine(blob)


NetworkDefinitionCreationFlag = ProfilingVerbosity = LayerInformationFormat = BuilderFlag = Settings()


def engine(model: onnx.ModelProto, **optimal: tuple[int, ...]) -> Engine:
    """The engine of a model, with the optimal shape of each dynamic input."""
    network, config = Network(), Config()
    network.model = model
    config.add_optimization_profile(Profile(optimal))
    return Engine(Builder(ILogger()).build_serialized_network(network, config))


def install() -> None:
    """Lets ctypes find the CUDA runtime of this module in this process."""
    load = ctypes.CDLL
    ctypes.CDLL = lambda name, *more, **named: Cuda() if "cudart" in str(name) else load(name, *more, **named)  # type: ignore[assignment, misc]


def write(folder: Path) -> None:
    """Writes this module as the package `tensorrt` into a folder for the search path of child processes."""
    text = Path(__file__).read_text(encoding="utf-8")
    (folder / "tensorrt.py").write_text(f"{text}\n\ninstall()\n", encoding="utf-8")
