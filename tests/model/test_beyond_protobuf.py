"""Models beyond 2 GiB, the most that protobuf serializes: refused with what to do, unless their tensors are in files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph.errors import ModelError
from qdqgraph.model import external, given
from tests.support.models import build

CALLS: Mapping[str, Callable[..., Any]] = {
    "check": qdqgraph.check,
    "fix": qdqgraph.fix,
    "to_fp16": qdqgraph.to_fp16,
    "forecast": qdqgraph.forecast,
    "strip": lambda model, **more: qdqgraph.strip(model, ["y"], **more),
}


def model() -> onnx.ModelProto:
    return build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }")


@pytest.mark.parametrize("call", CALLS)
def test_a_model_in_memory_is_refused_with_what_to_do(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run once with 2.42 GB of weights: benchmarks and CI have no memory for that, so here the limit is small."""
    monkeypatch.setattr(given, "refuse_beyond_protobuf", lambda model: external.refuse_beyond_protobuf(model, limit=60))
    with pytest.raises(ModelError, match=r"protobuf serializes at most 2 GiB: save it with onnx\.save_model\(model, "):
        CALLS[call](model())


def test_what_the_message_says_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_model = model()
    before = onnx.ModelProto.FromString(given_model.SerializeToString())
    onnx.save_model(given_model, tmp_path / "model.onnx", save_as_external_data=True, size_threshold=0)
    assert qdqgraph.fix(tmp_path / "model.onnx", output=tmp_path / "fixed.onnx").written
    small = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert qdqgraph.check(small, folder=tmp_path).findings == qdqgraph.check(tmp_path / "model.onnx").findings
    limit = sum(tensor.ByteSize() for tensor in external.tensors(before)) - 1
    monkeypatch.setattr(given, "refuse_beyond_protobuf", lambda model: external.refuse_beyond_protobuf(model, limit))
    with pytest.raises(ModelError, match="protobuf serializes at most 2 GiB"):
        qdqgraph.check(before)


def test_a_size_is_measured_only_where_it_may_be_too_large() -> None:
    """A tensor that claims more elements than it has is another fault, with its own message."""
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], np.ones(2, np.float32))
    tensor.dims[0] = 1 << 40
    graph = onnx.helper.make_graph([], "g", [], [], [tensor])
    external.refuse_beyond_protobuf(onnx.helper.make_model(graph))
    with pytest.raises(ModelError, match=r"0\.00 GB of tensors"):
        external.refuse_beyond_protobuf(onnx.helper.make_model(graph), limit=4)


def test_a_file_that_protobuf_cannot_read_is_refused_by_its_size(tmp_path: Path) -> None:
    """A sparse file: it takes no room on the disk."""
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(external.LIMIT + 2)
    with pytest.raises(ModelError, match=r"model\.onnx: the file has 2\.15 GB, and protobuf reads at most 2 GiB"):
        qdqgraph.check(path)
