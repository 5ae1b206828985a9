"""What models take and return: tensors by name, in containers, missing ones, with a batch that stays open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")
pytest.importorskip("onnxruntime")

import torch
from torch import Tensor, nn

from qdqgraph.errors import TorchError
from qdqgraph.torch import calibrate, export, link, quantize
from tests.support.odd_networks import Block, answers
from tests.support.torch_networks import X, dynamo_or_skip


class Named(Block):
    """Keyword arguments alone, a mapping as the answer."""

    def forward(self, *, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        y = self.b(torch.relu(self.a(image)) * mask)
        return {"y": y, "z": y + image}


class Mapped(Block):
    """A mapping and a list."""

    def forward(self, batch: dict[str, Tensor], extra: list[Tensor]) -> list[Tensor]:
        return [self.b(torch.relu(self.a(batch["image"])) * extra[0])]


class Several(Block):
    """Two tensors."""

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        out: Tensor = self.b(torch.relu(self.a(image)) * mask)
        return out


class Last(Block):
    """A mapping alone."""

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.b(torch.relu(self.a(batch["image"])) * batch["mask"])
        return out


MASK = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
FORMS: dict[str, tuple[type[Block], Any, list[str]]] = {
    "by name": (Named, {"image": X, "mask": MASK}, ["image", "mask"]),
    "mappings and lists": (Mapped, ({"image": X}, [MASK]), ["batch_image", "extra_0"]),
    "a mapping at the end": (Last, ({"image": X, "mask": MASK},), ["batch_image", "batch_mask"]),
    "several": (Several, (X, MASK), ["image", "mask"]),
}


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_inputs_of_every_form_are_linked_exported_and_named_and_their_batch_may_stay_open(
    form: str, dynamo: bool, tmp_path: Path
) -> None:
    dynamo_or_skip(dynamo)
    kind, example, expected = FORMS[form]
    model = kind().eval()

    def feed(net: nn.Module, batch: Any) -> Any:
        return net(**batch) if isinstance(batch, dict) else net(*batch)

    quantize(model)
    link(model, example, dynamo=dynamo)
    assert not calibrate(model, [example], feed=feed).unseen
    file = tmp_path / "m.onnx"
    written = export(model, example, file, opset=18, dynamo=dynamo, dynamic_batch=True)
    assert [i.name for i in written.graph.input] == expected
    ends = [*written.graph.input, *written.graph.output]
    assert all(end.type.tensor_type.shape.dim[0].dim_param for end in ends)
    with torch.no_grad():
        out = feed(model, example)
    found = answers(file, X, MASK)
    tensors = [out] if isinstance(out, Tensor) else list(out.values()) if isinstance(out, dict) else out
    for ours, theirs in zip(tensors, found, strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=0.03)
    assert "forward" not in vars(model)


@dataclass
class Boxes:
    """Tensors in a class that torch does not know."""

    boxes: Tensor
    scores: list[Tensor]


class Objects(Block):
    """Tensors in every kind of container, and what is no tensor."""

    def forward(self, x: Tensor) -> Any:
        y = self.a(x)
        return y, Boxes(self.b(y), [y + 1]), {"z": y - 1, "note": "text"}, None, 3


class Hidden:
    """An object with a tensor."""

    def __init__(self, x: Tensor) -> None:
        self.x = x


@pytest.mark.parametrize("dynamo", [False, True])
def test_tensors_of_every_container_are_outputs_of_the_file_in_order(dynamo: bool, tmp_path: Path) -> None:
    dynamo_or_skip(dynamo)
    model = Objects().eval()
    quantize(model)
    link(model, X, dynamo=dynamo)
    calibrate(model, [X])
    export(model, X, tmp_path / "m.onnx", dynamo=dynamo)
    with torch.no_grad():
        y, found, more, _, _ = model(X)
    expected = [y, found.boxes, *found.scores, more["z"]]
    for ours, theirs in zip(expected, answers(tmp_path / "m.onnx", X), strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=0.03)
    assert "forward" not in vars(model)


@pytest.mark.parametrize("dynamo", [False, True])
def test_an_output_whose_tensors_cannot_be_found_is_refused(dynamo: bool, tmp_path: Path) -> None:
    dynamo_or_skip(dynamo)

    class Opaque(Block):
        def forward(self, x: Tensor) -> Any:
            return Hidden(self.a(x))

    class Empty(Block):
        def forward(self, x: Tensor) -> Any:
            self.a(x)
            return {"note": "text", "count": 3}

    for kind, message in ((Opaque, "returns a Hidden, whose tensors cannot be found"), (Empty, "returns no tensor")):
        model = kind().eval()
        quantize(model)
        with pytest.raises(TorchError, match=message):
            link(model, X, dynamo=dynamo)
