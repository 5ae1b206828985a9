"""Scales from files of other tools: TensorRT, AIMET, ONNX Runtime. The texts are what these tools wrote for one MatMul."""

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdqgraph.calibration.tables import read, tensorrt
from qdqgraph.calibration.tables.table import Table, scale_of_range
from qdqgraph.errors import ModelError

AIMET_1 = {
    "activation_encodings": [
        {
            "name": "x",
            "bw": 8,
            "dtype": "INT",
            "enc_type": "PER_TENSOR",
            "is_sym": False,
            "offset": [-165.0],
            "scale": [0.5],
        },
        {
            "name": "y",
            "bw": 8,
            "dtype": "INT",
            "enc_type": "PER_TENSOR",
            "is_sym": True,
            "offset": [-128.0],
            "scale": [0.5],
        },
        {
            "name": "z",
            "bw": 16,
            "dtype": "INT",
            "enc_type": "PER_TENSOR",
            "is_sym": True,
            "offset": [-32768],
            "scale": [1],
        },
    ],
    "version": "1.0.0",
}
AIMET_2 = {
    "encodings": [
        {"name": "w", "axis": 1, "output_dtype": "int8", "y_scale": [0.1, 0.2]},
        {"name": "x", "output_dtype": "uint8", "y_scale": 0.5, "y_zero_point": 165},
        {"name": "y", "output_dtype": "int8", "y_scale": 0.5},
    ],
    "version": "2.0.0",
}
AIMET_0 = {
    "activation_encodings": {
        "x": [
            {
                "bitwidth": 8,
                "dtype": "int",
                "is_symmetric": "False",
                "max": 45.0,
                "min": -82.5,
                "offset": -165,
                "scale": 0.5,
            }
        ],
        "y": [
            {
                "bitwidth": 8,
                "dtype": "int",
                "is_symmetric": "True",
                "max": 63.5,
                "min": -63.5,
                "offset": -128,
                "scale": 0.5,
            }
        ],
    },
    "param_encodings": {},
    "version": "0.6.1",
}
RUNTIME = {
    "CLS": "TensorsData",
    "data": {
        "x": {
            "lowest": {"data": [-82.5], "dtype": "float32", "CLS": "numpy.array"},
            "highest": {"data": 45.0, "dtype": "float32", "CLS": "numpy.array"},
            "CLS": "TensorData",
        },
        "y": {"lowest": -63.5, "highest": 63.5, "hist": 4, "bins": 0, "CLS": "TensorData"},
    },
    "calibration_method": {"CLS": "CalibrationMethod", "value": "CalibrationMethod.MinMax"},
}


@pytest.mark.parametrize(
    "document", [AIMET_0, AIMET_1, AIMET_2, RUNTIME], ids=["aimet 0.6", "aimet 1.0", "aimet 2.0", "ort"]
)
def test_an_asymmetric_range_becomes_the_symmetric_scale_that_contains_it(tmp_path: Path, document: object) -> None:
    (tmp_path / "ranges.json").write_text(json.dumps(document))
    table = read(tmp_path / "ranges.json")
    assert table.scales["x"] == pytest.approx(82.5 / 127)
    assert table.scales["y"] == pytest.approx(0.5)


def test_entries_that_int8_cannot_use_are_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "ranges.json").write_text(json.dumps(AIMET_1))
    assert read(tmp_path / "ranges.json").skipped == {"z": "it has 16 bits; TensorRT's activations need 8"}
    (tmp_path / "other.json").write_text(json.dumps(AIMET_2))
    assert set(read(tmp_path / "other.json").skipped) == {"w"}


def test_a_calibration_cache_of_tensorrt(tmp_path: Path) -> None:
    path = tmp_path / "model.cache"
    path.write_text(
        "TRT-8601-EntropyCalibration2\nimages: 3c010a14\nlayer/conv:0: 3f800000\n(Unnamed Layer* 5) [Shuffle]_output: 0\n"
    )
    table = read(path)
    assert table.scales == {"images": struct.unpack(">f", bytes.fromhex("3c010a14"))[0], "layer/conv:0": 1.0}
    assert table.skipped == {"(Unnamed Layer* 5) [Shuffle]_output": "its range is 0"}
    assert table.source == "TensorRT calibration cache model.cache"


@given(st.dictionaries(st.text("abc/:._0", min_size=1), st.floats(2**-100, 2**100, width=32), min_size=1))
def test_a_cache_gives_back_the_scales_that_were_written_bit_for_bit(scales: dict[str, float]) -> None:
    text = tensorrt.written(scales)
    assert tensorrt.recognizes(text)
    found = tensorrt.scales(text)
    assert {n: np.float32(s).tobytes() for n, s in found.items()} == {
        n: np.float32(s).tobytes() for n, s in scales.items()
    }


def test_the_text_cache_of_onnx_runtime_contains_amax(tmp_path: Path) -> None:
    (tmp_path / "calibration.cache").write_text("a 12.7\nb/c 1.27\n\n")
    assert read(tmp_path / "calibration.cache").scales == {"a": pytest.approx(0.1), "b/c": pytest.approx(0.01)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is an empty file, not a file of ranges"),
        ("TRT-8601-EntropyCalibration2\nimages = 3\n", "line 2 is 'images = 3'"),
        ("TRT-8601-EntropyCalibration2\n", "has no usable range"),
        ('{"data": 3}', "unknown format"),
        ('{"activation_encodings": [{"name": "x", "bw": "eight"}]}', "an entry has an unexpected form"),
        ('{"encodings": []}', "has no usable range"),
        ("x nan\n", "ranges: it has no usable range for INT8; 'x': its range is nan"),
    ],
)
def test_an_unusable_file_is_one_sentence_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "ranges"
    path.write_text(text)
    with pytest.raises(ModelError, match="ranges") as error:
        read(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_says_which_formats_are_known(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="TensorRT calibration cache"):
        read(tmp_path / "missing.cache")


@pytest.mark.parametrize(("low", "high"), [(math.nan, 1.0), (-1.0, math.nan), (0.0, math.nan)])
def test_a_range_with_an_end_that_is_nan_has_no_scale(low: float, high: float) -> None:
    assert math.isnan(scale_of_range(low, high))


def test_a_scale_at_or_below_that_of_the_table_loses_no_bits() -> None:
    table = Table({"a": 0.1}, "a table", {})
    assert [table.loss("a", scale) for scale in (0.0, 0.05, 0.1, 0.2)] == [0, 0, 0, 1]
