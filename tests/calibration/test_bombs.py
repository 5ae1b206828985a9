"""Sample files that would fill the memory are refused before they are read, each with its file."""

from __future__ import annotations

import io
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qdqgraph.calibration.data.sources import samples_of
from qdqgraph.errors import ModelError
from tests.support.models import build

MODEL = build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }")


def header(shape: str, dtype: str = "'<f4'") -> bytes:
    """The beginning of an .npy file."""
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def archive(path: Path, content: bytes | Callable[[io.BufferedIOBase], None], name: str = "x.npy") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        if isinstance(content, bytes):
            file.writestr(name, content)
        else:
            with file.open(name, "w", force_zip64=True) as member:
                content(member)  # type: ignore[arg-type]
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError, match=path.name) as error:
        for _ in samples_of(path, MODEL):
            pass
    return str(error.value)


def test_a_small_file_of_a_large_array(tmp_path: Path) -> None:
    def zeros(member: io.BufferedIOBase) -> None:
        member.write(header("(400000, 4, 8, 8)"))
        for _ in range(400):
            member.write(bytes(1024 * 1000))

    path = archive(tmp_path / "bomb.npz", zeros)
    assert path.stat().st_size < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "'x.npy' has 409,600,128 bytes in" in refusal(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header("(8, 4, 8, 8)") + b"1234", "has another size"),
        (header("(9000000000, 4, 8, 8)"), "has another size"),
        (header("(4611686018427387904, 4, 8, 8)"), "has another size"),
        (header("(-8, 4, 8, 8)"), "another size"),
        (header("(1, 4, 8, 8)", "'|O'") + bytes(2048), "Python objects"),
        (b"", "not an .npz file"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "not an .npz file"),
    ],
)
def test_headers_that_the_data_do_not_fit(tmp_path: Path, content: bytes, said: str) -> None:
    assert said.removeprefix("has ") in refusal(archive(tmp_path / "x.npz", content))
    (tmp_path / "x.npy").write_bytes(content)
    refusal(tmp_path / "x.npy")


def test_odd_archives(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.ones((1, 4, 8, 8), np.float32))
    path = archive(tmp_path / "x.npz", content.getvalue())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as file:
        file.writestr("x.npy", content.getvalue())
    assert "'x.npy' more than once" in refusal(path)
    assert "model's inputs are ['x']" in refusal(archive(tmp_path / "nested.npz", content.getvalue(), "../../x.npy"))
    data = bytearray(archive(tmp_path / "locked.npz", content.getvalue()).read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    data[6] |= 1
    (tmp_path / "locked.npz").write_bytes(data)
    assert "encrypted" in refusal(tmp_path / "locked.npz")


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_picture_of_too_many_pixels(tmp_path: Path, side: int) -> None:
    image = pytest.importorskip("PIL.Image")
    model = build("g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = t.pair (x, s1) }")
    image.new("1", (side, side)).save(tmp_path / "large.png")
    with pytest.raises(ModelError, match=r"large.png: more than 89,478,485 pixels.*: scale it down"):
        for _ in samples_of(tmp_path, model, preprocess="unit"):
            pass
