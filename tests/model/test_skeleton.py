"""A large model file is read without its weights, as protobuf reads it, or not at all; and written as protobuf does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from qdqgraph.errors import ModelError
from qdqgraph.model import skeleton as reading
from qdqgraph.model.constants import array_of
from qdqgraph.model.external import external_tensors
from qdqgraph.model.files import is_canonical, read_model
from qdqgraph.model.inline import whole
from qdqgraph.model.inline.references import reference, referencing
from qdqgraph.model.inline.wire import varint
from qdqgraph.model.skeleton import skeleton, without_weights

LARGE = 64
TEXTS = st.sampled_from(("", "w", "ü" * 40))


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(reading, "LIMIT", 0)
    monkeypatch.setattr(reading, "LARGE", LARGE)
    with referencing():
        yield


def field(number: int, data: bytes) -> bytes:
    """A field with a length, as protobuf writes it."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def weights(name: str = "w", count: int = 100) -> TensorProto:
    return numpy_helper.from_array(np.arange(count, dtype=np.float32), name)


def model(*tensors: TensorProto) -> onnx.ModelProto:
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [], [], tensors)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


def parsed(data: bytes) -> onnx.ModelProto | None:
    try:
        return onnx.ModelProto.FromString(data)
    except DecodeError:
        return None


def value(tensor: TensorProto, folder: Path) -> object:
    """The value of a tensor, or that it has none."""
    try:
        array = array_of(tensor, folder)
    except KeyError:  # of an unknown type
        return KeyError
    return None if array is None else (array.tobytes(), array.dtype, array.shape, array.flags.writeable)


def same_as_protobuf(path: Path, data: bytes) -> bool:
    """Whether a file is read as a skeleton; asserts that it is then what protobuf reads, to the byte and to the value."""
    path.write_bytes(data)
    light, own = skeleton(path), parsed(data)
    if light is None:
        return False
    assert own is not None, "protobuf rejects the file"
    assert b"".join(whole.blocks(light)) == own.SerializeToString(deterministic=True)
    assert whole.size(light) == len(own.SerializeToString(deterministic=True))
    for tensor, wanted in zip(light.graph.initializer, own.graph.initializer, strict=True):
        assert value(tensor, path.parent) == value(wanted, path.parent)
    assert not list(external_tensors(light))
    return True


tensors = st.builds(
    TensorProto,
    name=TEXTS,
    doc_string=TEXTS,
    dims=st.lists(st.sampled_from((1, 2, 8, 25)), max_size=3),
    data_type=st.sampled_from((0, 1, 2, 3, 8, 10, 14, 16, 17, 22, 99)),
    raw_data=st.sampled_from((0, 3, 63, 64, 100, 1600)).map(lambda n: bytes(i % 251 for i in range(n))),
    float_data=st.lists(st.floats(width=32), max_size=40),
    data_location=st.sampled_from((None, 0, 0, 0, 1)),
    external_data=st.just([]) | st.just([onnx.StringStringEntryProto(key="location", value="w")]),
)
extra = st.sampled_from(
    (
        b"",
        field(100, bytes(200)),  # an unknown field
        field(7, b""),
        field(7, field(5, weights("again").SerializeToString())),  # a second graph, which protobuf merges
        field(7, field(5, weights("again").SerializeToString() + field(9, bytes(400)))),  # raw data twice
        varint(200 << 3) + b"\x85\x01",
        varint(200 << 3 | 5) + bytes(4),
        b"\x83\x01\x84\x01",  # a group
        b"\x02\x00",  # field 0
        b"\x0a\xff\xff\xff\xff\x0f",  # a length beyond the end
        field(7, b"\x2a\xe4\x80\x00" + field(9, bytes(96)) + bytes(2)),  # a length in three bytes instead of one
    )
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=st.lists(tensors, max_size=3), more=extra, first=st.booleans())
def test_what_is_read_is_what_protobuf_reads(
    items: list[TensorProto], more: bytes, first: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = model(*items).SerializeToString()
    same_as_protobuf(tmp_path_factory.getbasetemp() / "model.onnx", more + data if first else data + more)


def test_a_file_cut_anywhere_gives_the_usual_error(tmp_path: Path) -> None:
    path, data = tmp_path / "model.onnx", model(weights(count=20), weights("v", 20)).SerializeToString()
    assert same_as_protobuf(path, data)
    for size in range(1, len(data)):
        if not same_as_protobuf(path, data[:size]):
            with pytest.raises(ModelError) as usual, pytest.MonkeyPatch.context() as patch:
                patch.setattr(reading, "LIMIT", 1 << 30)
                read_model(path)
            with pytest.raises(ModelError) as found:
                read_model(path)
            assert str(found.value) == str(usual.value)


LIGHT = {
    "plain": model(weights()).SerializeToString(),
    "declared as inside, as onnx.load leaves the external data that it read": model(
        TensorProto(name="w", dims=[100], data_type=1, raw_data=bytes(400), data_location=TensorProto.DEFAULT)
    ).SerializeToString(),
    "two graphs, which protobuf merges": model(weights()).SerializeToString()
    + field(7, field(5, weights("v").SerializeToString())),
    "a tensor with an unknown field": model().SerializeToString()
    + field(7, field(5, weights().SerializeToString() + field(99, b"new"))),
}
USUAL = {
    "small": model(weights(count=4)).SerializeToString(),
    "numbers instead of raw data": model(
        TensorProto(name="w", dims=[100], data_type=1, float_data=[1.0] * 100)
    ).SerializeToString(),
    "a part of a tensor": model(
        TensorProto(dims=[100], data_type=1, raw_data=bytes(400), segment=TensorProto.Segment(begin=0))
    ).SerializeToString(),
    "beside external data": model(
        weights(), TensorProto(name="e", dims=[1], data_type=1, data_location=TensorProto.EXTERNAL)
    ).SerializeToString(),
    "raw data twice": model().SerializeToString() + field(7, field(5, field(9, bytes(99)) + field(9, bytes(98)))),
    "a group": model(weights()).SerializeToString() + b"\x83\x01\x84\x01",
    "empty": b"",
}


@pytest.mark.parametrize("data", LIGHT.values(), ids=LIGHT)
def test_weights_stay_in_the_file(data: bytes, tmp_path: Path) -> None:
    assert same_as_protobuf(tmp_path / "model.onnx", data)
    light = without_weights(tmp_path / "model.onnx")
    assert light is not None and light.ByteSize() < len(data) - 300


@pytest.mark.parametrize("data", USUAL.values(), ids=USUAL)
def test_other_files_are_read_in_the_usual_way(data: bytes, tmp_path: Path) -> None:
    assert not same_as_protobuf(tmp_path / "model.onnx", data)


def test_a_length_in_more_bytes_than_it_needs_is_left_to_protobuf(tmp_path: Path) -> None:
    data = weights().SerializeToString()
    assert len(data) < 1 << 14
    long = bytes([len(data) & 0x7F | 0x80, len(data) >> 7 | 0x80, 0])
    content = b"\x2a" + long + data
    assert not same_as_protobuf(tmp_path / "model.onnx", model().SerializeToString() + field(7, content))


def test_a_file_of_many_small_fields_is_left_to_protobuf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = model(weights()).SerializeToString() + (varint(200 << 3) + b"\x01") * 4000
    assert same_as_protobuf(tmp_path / "model.onnx", data)
    monkeypatch.setattr(reading, "STEPS", 2000)
    assert not same_as_protobuf(tmp_path / "model.onnx", data)


def test_few_files_are_kept_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST", 2)
    assert [skeleton(path) is not None for _ in range(4)] == [True, True, False, False]
    with referencing():
        assert skeleton(path) is not None  # another call has files of its own


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(model(weights()).SerializeToString(deterministic=True))
    return tmp_path / "model.onnx"


def test_a_replaced_file_stays_readable(path: Path) -> None:
    light, before = read_model(path), path.read_bytes()
    other = path.with_name("other")
    other.write_bytes(b"another")
    other.replace(path)
    assert b"".join(whole.blocks(light)) == before


def test_a_file_that_is_changed_or_cut_is_refused(path: Path) -> None:
    light, before = read_model(path), path.read_bytes()
    path.write_bytes(before[:-1] + b"!")
    with pytest.raises(ModelError, match=r"model\.onnx was changed while it was read: run the command again"):
        whole.digest(light)
    path.write_bytes(before[:100])
    with pytest.raises(ModelError, match=r"model\.onnx became shorter while it was read: run the command again"):
        array_of(light.graph.initializer[0], path.parent)


def test_a_file_that_protobuf_wrote_is_canonical(path: Path) -> None:
    assert is_canonical(path, read_model(path))
    light = read_model(path)
    path.write_bytes(path.read_bytes() + field(100, b""))
    assert not is_canonical(path, light)


def test_weights_that_do_not_fit_their_shape_have_no_value(path: Path) -> None:
    tensor = read_model(path).graph.initializer[0]
    tensor.dims[:] = [7]
    assert array_of(tensor, path.parent) is None


def test_a_result_beyond_what_protobuf_serializes_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    light = read_model(path)
    monkeypatch.setattr(whole, "LIMIT", 400)
    with pytest.raises(
        ModelError, match=r"the result has 0\.00 GB, and protobuf serializes at most 2 GiB: save the model"
    ):
        whole.size(light)


def test_no_file_makes_a_reference(path: Path) -> None:
    """A file may name any location; that of a reference is a random number of this process."""
    light = read_model(path)
    (own,) = (reference(tensor) for tensor in light.graph.initializer)
    assert own is not None and own.file.name == str(path)
    forged = onnx.ModelProto.FromString(light.SerializeToString())
    forged.graph.initializer[0].external_data[0].value = ".inside.0"
    assert reference(forged.graph.initializer[0]) is None and list(external_tensors(forged))
