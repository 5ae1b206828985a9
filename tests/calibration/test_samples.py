"""Samples: read lazily from files, pictures and functions, checked against the model, the same on every pass."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qdqgraph import ModelError
from qdqgraph.calibration.data.preprocess import PRESETS, Preprocess
from qdqgraph.calibration.data.sources import samples_of

ONE = "g (float[N,4,8,8] x) => (float[N,4,8,8] y) { y = Relu (x) }"
TWO = "g (float[1,2] a, float[1,2] b) => (float[1,2] y) { y = Add (a, b) }"
BATCH = "g (float[4,2] x) => (float[4,2] y) { y = Relu (x) }"
IMAGE = "g (float[N,3,6,8] x) => (float[N,3,6,8] y) { y = Relu (x) }"


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


def rows(count: int, *shape: int) -> np.ndarray:
    return np.arange(count * int(np.prod(shape)), dtype=np.float64).reshape(count, *shape)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npz_file_is_cut_into_samples_of_the_models_batch_and_type(tmp_path: Path, save: Any, order: Any) -> None:
    images = rows(3, 4, 8, 8)
    save(tmp_path / "x.npz", x=np.asarray(images, order=order), more=np.zeros(1))
    samples = samples_of(tmp_path / "x.npz", model(ONE))
    for _ in range(2):
        feeds = list(samples)
        assert [f["x"].shape for f in feeds] == [(1, 4, 8, 8)] * 3 and feeds[0]["x"].dtype == np.float32
        assert np.array_equal(np.concatenate([f["x"] for f in feeds]), images) and set(feeds[0]) == {"x"}
    assert len(samples) == 3 and samples.description == str(tmp_path / "x.npz")


def test_values_of_an_input_of_strings_count_for_the_digest(tmp_path: Path) -> None:
    words = model("g (string[N,2] x) => (string[N,2] y) { y = Identity (x) }")
    found = []
    for last in (2.0, 3.0):
        np.savez(tmp_path / "x.npz", x=np.array([[0.0, 1.0], [1.0, last]]))
        samples = samples_of(tmp_path / "x.npz", words)
        assert [feed["x"].dtype for feed in samples] == [np.dtype(object)] * 2
        found.append(samples.digest)
    assert len(set(found)) == 2


def test_a_large_file_is_not_read_as_a_whole(tmp_path: Path) -> None:
    import tracemalloc

    np.savez(tmp_path / "x.npz", x=np.zeros((400, 4, 64, 64), np.float32))
    np.save(tmp_path / "x.npy", np.zeros((400, 4, 64, 64), np.float32))
    wide = model("g (float[N,4,64,64] x) => (float[N,4,64,64] y) { y = Relu (x) }")
    for path in (tmp_path / "x.npz", tmp_path / "x.npy"):
        tracemalloc.start()
        assert len(samples_of(path, wide)) == 400
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20 < 400 * 4 * 64 * 64 * 4
        tracemalloc.stop()


def test_rows_are_put_together_where_the_batch_is_fixed_also_across_files(tmp_path: Path) -> None:
    for index, count in enumerate((3, 1, 5)):
        np.save(tmp_path / f"{index}.npy", rows(count, 2) + 100 * index)
    feeds = list(samples_of(tmp_path, model(BATCH)))
    assert [f["x"][:, 0].tolist() for f in feeds] == [[0, 2, 4, 100], [200, 202, 204, 206]]
    (tmp_path / "2.npy").unlink()
    (tmp_path / "1.npy").unlink()
    with pytest.raises(ModelError, match="no samples; the model's batch is 4, and there are fewer"):
        len(samples_of(tmp_path, model(BATCH)))


def test_a_folder_of_files_has_one_or_several_samples_in_each(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", x=rows(2, 4, 8, 8))
    np.savez(tmp_path / "a.npz", x=rows(1, 4, 8, 8)[0])
    (tmp_path / "notes.txt").write_text("ignored")
    samples = samples_of(tmp_path, model(ONE), limit=2)
    assert len(samples) == 2 and samples.description == f"2 files of {tmp_path}"
    assert len(samples_of(tmp_path, model(ONE))) == 3


def test_the_digest_is_of_the_values_whatever_the_file(tmp_path: Path) -> None:
    images = rows(3, 4, 8, 8)
    np.savez(tmp_path / "x.npz", x=images)
    np.save(tmp_path / "x.npy", images.astype(np.float32))
    given = [{"x": image[None]} for image in images]
    digests = {samples_of(data, model(ONE)).digest for data in (tmp_path / "x.npz", tmp_path / "x.npy", given)}
    assert len(digests) == 1
    assert samples_of(given[:2], model(ONE)).digest not in digests


def load_data() -> Iterator[dict[str, np.ndarray]]:
    """As in a data-loader script of Polygraphy."""
    for value in range(3):
        yield {"x": np.full((1, 4, 8, 8), value, np.float32)}


def test_functions_yield_mappings_arrays_or_tuples_with_labels() -> None:
    def pairs() -> Iterator[tuple[np.ndarray, int]]:
        yield from ((feed["x"], 7) for feed in load_data())

    def arrays() -> list[np.ndarray]:
        return [feed["x"] for feed in load_data()]

    found = [samples_of(f, model(ONE)) for f in (load_data, pairs, arrays)]
    assert len({s.digest for s in found}) == 1 and [len(s) for s in found] == [3, 3, 3]
    assert found[0].description == "load_data"


def test_a_given_array_is_one_sample_where_the_batch_is_dynamic() -> None:
    (feed,) = samples_of([{"x": np.zeros((5, 4, 8, 8), np.float32)}], model(ONE))
    assert feed["x"].shape == (5, 4, 8, 8)


def test_values_that_change_from_pass_to_pass_are_refused() -> None:
    def noise() -> Iterator[np.ndarray]:
        yield np.random.default_rng().standard_normal((1, 4, 8, 8)).astype(np.float32)

    samples = samples_of(noise, model(ONE))
    assert sum(1 for _ in samples) == 1
    with pytest.raises(ModelError, match=r"noise: other samples than in the pass before; .* a fixed seed"):
        list(samples)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"y": 1}], r"sample 1: contains \['y'\], but the model's inputs are \['x'\]"),
        ([np.zeros((1, 3, 8, 8))], r"sample 1: input 'x' has the shape \[1, 3, 8, 8\], and the model takes float32 \["),
        ([np.full((4, 8, 8), np.nan)], r"sample 1: input 'x' contains NaN or infinity \(256 values\)"),
        ([["cat"]], "sample 1: input 'x' is not an array of numbers"),
        ([np.full((4, 8, 8), 1e300)], "sample 1: input 'x' has values beyond the range of float32"),
        ([], "0 given samples: no samples"),
        (iter([]), "can be read only once: give the function"),
        ("nothing.npz", r"nothing\.npz: no such file or folder"),
    ],
)
def test_data_that_do_not_fit_are_refused(data: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        list(samples_of(data, model(ONE)))


def test_integers_take_whole_numbers_only() -> None:
    integers = model("g (int64[1,2] x) => (int64[1,2] y) { y = Identity (x) }")
    assert [f["x"].dtype for f in samples_of([np.array([[1.0, 2.0]])], integers)] == [np.int64]
    with pytest.raises(ModelError, match="values of type float64 that are no int64"):
        list(samples_of([np.array([[1.5, 2.0]])], integers))


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    np.savez(file, a=np.zeros((2, 2)), b=np.zeros((3, 2)))
    with pytest.raises(ModelError, match=r"x\.npz: the arrays contain different numbers of samples: \[2, 3\]"):
        list(samples_of(file, model(TWO)))
    np.savez(file, a=np.zeros((2, 2)))
    with pytest.raises(ModelError, match=r"x\.npz: contains \['a'\], but the model's inputs are \['a', 'b'\]"):
        list(samples_of(file, model(TWO)))
    np.savez(file, a=np.array([object()]), b=np.zeros((1, 2)))
    with pytest.raises(ModelError, match=r"x\.npz: not an \.npz file of input arrays \(an array of Python objects\)"):
        list(samples_of(file, model(TWO)))
    np.savez(file, a=np.zeros((900, 2)), b=np.zeros((900, 2)))
    file.write_bytes(file.read_bytes().replace(b"a.npy", b"c.npy"))
    file.write_bytes(b"no archive")
    with pytest.raises(ModelError, match=r"x\.npz: this is a text file, not a file of samples; --data takes \.npz"):
        list(samples_of(file, model(TWO)))
    np.save(tmp_path / "y.npy", np.zeros((1, 2)))
    with pytest.raises(ModelError, match=r"y\.npy: one array, but the model's inputs are \['a', 'b'\]"):
        list(samples_of(tmp_path / "y.npy", model(TWO)))


def test_a_number_of_samples_that_there_is_not_is_refused() -> None:
    with pytest.raises(ModelError, match="load_data: 3 samples, and 4 were asked for"):
        list(samples_of(load_data, model(ONE), limit=4))
    with pytest.raises(ModelError, match="0 samples: give a number above zero"):
        samples_of(load_data, model(ONE), limit=0)


def picture(path: Path, size: tuple[int, int] = (20, 12)) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    image.fromarray(pixels).save(path)
    return pixels


def test_pictures_become_inputs_and_the_description_says_how(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png", (8, 6))
    samples = samples_of(tmp_path, model(IMAGE), preprocess="raw")
    (feed,) = samples
    assert np.array_equal(feed["x"][0], pixels.transpose(2, 0, 1)) and samples.expected == 1
    assert samples.description == f"1 pictures of {tmp_path}, stretched to 6x8, rgb, nchw, (pixel * 1 - 0) / 1"
    spec = "size=6x8,order=bgr,scale=1/255,mean=0.1:0.2:0.3,std=2"
    (feed,) = samples_of(tmp_path, model(IMAGE), preprocess=spec)
    expected = (pixels[..., ::-1] / 255 - [0.1, 0.2, 0.3]) / 2
    assert np.allclose(feed["x"][0], expected.transpose(2, 0, 1), atol=1e-6)


def test_presets_are_those_of_the_frameworks(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "a.png", (8, 6)).astype(np.float64)
    nhwc = model("g (float[1,6,8,3] x) => (float[1,6,8,3] y) { y = Relu (x) }")
    (feed,) = samples_of(tmp_path, nhwc, preprocess="imagenet-tf,fit=stretch")
    assert np.allclose(feed["x"][0], pixels / 127.5 - 1, atol=1e-6)
    (feed,) = samples_of(tmp_path, nhwc, preprocess="imagenet,fit=stretch,order=bgr")
    torchvision = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(feed["x"][0], torchvision[..., ::-1], atol=1e-5)


def test_letterbox_keeps_the_proportions_and_pads(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (20, 5))
    (feed,) = samples_of(tmp_path, model(IMAGE), preprocess="yolo")
    padded = np.isclose(feed["x"][0], 114 / 255, atol=1e-6)
    assert padded[:, [0, 1, 4, 5]].all() and not padded[:, 2:4].all()


def test_crop_takes_the_center_of_the_resized_picture(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((70, 140, 3), np.uint8)
    pixels[:, 50:90] = 200
    image.fromarray(pixels).save(tmp_path / "a.png")
    (feed,) = samples_of(tmp_path, model(IMAGE), preprocess="raw,fit=crop")
    assert feed["x"].shape == (1, 3, 6, 8) and feed["x"][0, :, :, 3:5].min() > 150 and feed["x"][0, :, :, 0].max() < 50


def test_gray_pictures_and_batches(tmp_path: Path) -> None:
    for name in "abcd":
        picture(tmp_path / f"{name}.png", (8, 6))
    gray = model("g (float[2,1,6,8] x) => (float[2,1,6,8] y) { y = Relu (x) }")
    assert [f["x"].shape for f in samples_of(tmp_path, gray, preprocess="unit")] == [(2, 1, 6, 8)] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imagent", "there is no preset 'imagent'; did you mean 'imagenet'\\?"),
        ("size=6x8,sclae=1", "'sclae=1'; did you mean 'scale'\\?"),
        ("scale=1/0", "'scale=1/0' is wrong; write scale=1/255"),
        ("std=0", "'std=0' is wrong; write std="),
        ("raw,layout=hwc", "'layout=hwc' is wrong; write layout=nchw or layout=nhwc"),
        ("raw,size=7", r"does not take stretched to 7x7, rgb, nchw.*: change layout, order or size"),
        ("raw,mean=1:2", "mean has 2 values for rgb pictures"),
    ],
)
def test_a_preprocessing_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(ModelError, match=message):
        samples_of(tmp_path, model(IMAGE), preprocess=text)


def test_pictures_that_cannot_be_used_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(ModelError, match=r"pictures need --preprocess: one of imagenet, .*, or entries such as size="):
        samples_of(tmp_path, model(IMAGE))
    with pytest.raises(ModelError, match="pictures fit a model with one input, and this one has 2"):
        samples_of(tmp_path, model(TWO), preprocess="raw")
    dynamic = model("g (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu (x) }")
    with pytest.raises(ModelError, match="dynamic size: add it to --preprocess, as in size=640"):
        samples_of(tmp_path, dynamic, preprocess="raw")
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    with pytest.raises(ModelError, match=r"b\.jpg: not a picture, or damaged .*: remove it"):
        list(samples_of(tmp_path, model(IMAGE), preprocess="raw"))
    np.save(tmp_path / "c.npy", np.zeros(3))
    with pytest.raises(ModelError, match=r"contains arrays \(c\.npy\) and pictures \(a\.png\): separate them"):
        samples_of(tmp_path, model(IMAGE), preprocess="raw")
    with pytest.raises(ModelError, match=r"c\.npy: --preprocess is for pictures"):
        samples_of(tmp_path / "c.npy", model(IMAGE), preprocess="raw")
    (tmp_path / "c.npy").unlink()
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ModelError, match=r"reading pictures needs Pillow: pip install '"):
        samples_of(tmp_path, model(IMAGE), preprocess="raw")


def test_every_preset_says_what_it_does() -> None:
    assert {name: Preprocess.parse(name) for name in PRESETS} == dict(PRESETS)
    assert PRESETS["yolo"].text == (
        "resized with its proportions and padded to the input's size with 114, (pixel * 0.00392157 - 0) / 1"
    )


def test_the_description_names_the_pictures_that_are_used(tmp_path: Path) -> None:
    for index in range(3):
        picture(tmp_path / f"{index}.png", (8, 6))
    found = samples_of(tmp_path, model(IMAGE), preprocess="raw", limit=2)
    assert found.description.startswith(f"the first 2 of 3 pictures of {tmp_path}, ") and len(found) == 2


def test_a_program_without_a_function_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "loader.py").write_text("")
    with pytest.raises(ModelError, match=r"loader.py is a program: name its function that yields samples"):
        samples_of(tmp_path / "loader.py", model(IMAGE))


def test_a_later_pass_decodes_only_the_pictures_that_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import PIL.Image

    for index in range(3):
        picture(tmp_path / f"{index}.png", (8, 6))
    opened: list[str] = []
    opens = PIL.Image.open

    def recorded(path: Path) -> Any:
        opened.append(path.name)
        return opens(path)

    monkeypatch.setattr(PIL.Image, "open", recorded)
    monkeypatch.setattr("qdqgraph.calibration.data.pictures.KEPT", 2 * 8 * 6 * 3)
    samples = samples_of(tmp_path, model(IMAGE), preprocess="yolo,order=bgr")
    first, second = ([feed["x"] for feed in samples] for _ in range(2))
    assert np.array_equal(first, second) and opened == ["0.png", "1.png", "2.png", "2.png"]
