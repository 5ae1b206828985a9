"""The whole flow on networks of many kinds, with random weights and small inputs."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.placement_table import judged

from . import architectures, flow

COLUMNS = (
    *("network", "input", "outcome", "INT8 conv", "weighted layers in INT8", "groups", "added"),
    *("file against model, dB", "boundary", "float of it", "reported by a step", "s"),
)
EDGE = 64
"""Height and width of the inputs of most networks."""
EDGES = {
    "tm:inception_v3": 96,
    "tm:vgg11_bn": 224,
    "tm:vit_tiny_patch16_224": 224,
    "tm:swin_tiny_patch4_window7_224": 224,
    "tm:levit_128s": 224,
    "tm:maxvit_rmlp_pico_rw_256": 256,
    "tm:mixer_s32_224": 224,
    "tm:xcit_nano_12_p16_224": 224,
    "tm:botnet26t_256": 256,
    "tm:efficientformer_l1": 224,
    "tm:visformer_tiny": 224,
    "tm:edgenext_xx_small": 96,
    "ul:rtdetr-l": 160,
}
"""Those of the networks that need others."""
NAMES = (
    *("tm:regnetx_002", "tm:efficientnet_b0", "tm:mobilenetv3_small_050", "tm:mobilenetv4_conv_small"),
    *("tm:convnext_atto", "tm:vit_tiny_patch16_224", "tm:levit_128s", "tm:mobilevit_xxs", "tm:nf_resnet26", "tm:dla34"),
    *("tm:hrnet_w18_small", "tm:inception_v3", "tm:vgg11_bn", "tm:ghostnet_050", "tm:poolformer_s12"),
    *("tm:edgenext_xx_small", "tm:repvgg_a0", "tm:mixer_s32_224", "tm:xcit_nano_12_p16_224", "tm:skresnet18"),
    *("tm:botnet26t_256", "tm:cspresnet50", "tm:efficientvit_b0", "tm:visformer_tiny", "tm:efficientformer_l1"),
    *("ul:yolov3-tiny", "ul:yolov5n", "ul:yolov6n", "ul:yolov8n", "ul:yolo11n", "ul:yolo12n", "ul:yolo26n"),
    *("ul:yolov10n", "ul:yolov8n-seg", "ul:yolov8n-pose", "ul:yolov9t", "tm:maxvit_rmlp_pico_rw_256"),
    *("tm:swin_tiny_patch4_window7_224", "tm:densenet121", "ul:rtdetr-l"),
)


def edge(name: str) -> int:
    """Height and width of the input."""
    return EDGES.get(name, EDGE)


def record(name: str, folder: Path, judge: Path | None) -> dict[str, Any]:
    """The outcome of one network, read from the file of an earlier run, or appended to it.

    Args:
        judge: as in `placement`; None: not built.
    """
    file = folder / "networks.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    done = {entry["name"]: entry for entry in map(json.loads, lines)}
    if name not in done:
        start = time.process_time()
        path = folder / f"{name.replace(':', '_')}.onnx"
        batches = [architectures.image(edge(name), seed) for seed in range(3)]
        blocks = ["model.*"] if name.startswith("ul:") else ["*"]
        found = flow.Flow(lambda: architectures.network(name, edge(name)), batches, path, blocks).run()
        entry = asdict(found) | {"name": name, "file": str(found.file), "seconds": time.process_time() - start}
        if judge is not None and found.file is not None:
            entry["built"] = judged(judge, [found.file])[0]
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        done[name] = entry
    return done[name]


def row(name: str, folder: Path, judge: Path | None) -> str:
    """One line of the table."""
    found = record(name, folder, judge)
    built = found.get("built", {"ok": False})
    cells = [name, f"{edge(name)} x {edge(name)}", found["sentence"]]
    cells += [f"{found['int8_convolutions']}/{found['convolutions']}", f"{found['int8']}/{found['weighted']}"]
    cells += [str(found["groups"]), str(found["added"]), f"{found['sqnr']:.0f}"]
    cells += [f"{built[key]:,}" if built["ok"] else "-" for key in ("boundary_bytes", "float_boundary")]
    cells += ["; ".join(found["said"]) or "none", f"{found['seconds']:.0f}"]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"
