"""Bias correction on a trained network: its layers and its outputs are nearer to the float network on other images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")
pytest.importorskip("mlxtend")

import torch

import qdqgraph
from qdqgraph.calibration.layers.gain import output_sqnr
from qdqgraph.calibration.statistics.floating import float_model
from samples import demo, digits, networks, quantize

CALIBRATION, JUDGED = 8, 6
"""Batches of images."""


def test_the_biases_of_trained_digits_help_on_images_that_they_were_not_computed_from(tmp_path: Path) -> None:
    data, test = digits.load()
    torch.manual_seed(0)
    network = networks.Digits()
    demo.train(network, digits.Split(data.images[:1500], data.labels[:1500]), epochs=2)
    networks.fold_norms(network)
    quantize.swap(network, "max", "both")
    batches = np.split(data.images[: CALIBRATION * demo.BATCH], CALIBRATION)
    quantize.calibrate(network, map(torch.from_numpy, batches), "max")
    quantize.export(network, torch.from_numpy(batches[0]), tmp_path / "net.onnx", network.outputs)
    model = onnx.load(tmp_path / "net.onnx")
    feeds = [{"images": batch} for batch in batches]
    plain = qdqgraph.fix(model, data=feeds)
    result = qdqgraph.fix(model, data=feeds, bias_correction=True)
    (done,) = result.corrections
    assert done.kept and len(done.layers) >= done.examined / 2
    assert all(layer.after > layer.before for layer in done.layers)
    judged = [{"images": batch} for batch in np.split(test.images[: JUDGED * demo.BATCH], JUDGED)]
    errors = [{row.layer: row.alone.sqnr for row in qdqgraph.error(r.model, judged).layers} for r in (plain, result)]
    assert np.mean([errors[1][layer.layer] - errors[0][layer.layer] for layer in done.layers]) > 0
    before, after = output_sqnr([plain.model, result.model], float_model(plain.model, tmp_path), judged, tmp_path)
    noise = np.std(after - before, ddof=1) / np.sqrt(JUDGED)
    assert np.mean(after - before) > -noise, (before, after)
    assert qdqgraph.fix(result.model, data=feeds, bias_correction=True).model == result.model
