"""Fine-tuning of networks whose heads answer otherwise in each mode, with and without the loss of their task."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import Tensor, nn

from qdqgraph.errors import TorchError
from qdqgraph.torch import Training, calibrate, export, finetune, link, quantize, quantizers
from qdqgraph.torch.training import objective
from qdqgraph.torch.training.comparison import described, distance
from qdqgraph.torch.training.features import feature_distance
from tests.support.detectors import Auxiliary, Detector, LossDetector, Raw, pictures

FEW = Training(epochs=3, rate=1e-3)


def pair(kind: type[nn.Module], *, worse: float = 0.5) -> tuple[Any, Any]:
    """A float network, and its quantized copy with scales that leave something to learn."""
    torch.manual_seed(0)
    teacher = kind().eval()
    student = copy.deepcopy(teacher)
    quantize(student)
    link(student, pictures()[0]["image"])
    calibrate(student, pictures(), progress=False)
    for quantizer in quantizers(student).values():
        quantizer.set_amax(None if quantizer.amax is None else quantizer.amax * worse)
    return teacher, student


@pytest.mark.parametrize("mode", [None, "eval", "train"])
@pytest.mark.parametrize("kind", [Detector, Auxiliary])
def test_networks_whose_heads_differ_between_modes_are_compared_in_one_mode(kind: Any, mode: Any) -> None:
    teacher, student = pair(kind)
    modes = [m.training for m in (*student.modules(), *teacher.modules())]
    done = finetune(student, teacher, pictures(), training=Training(epochs=3, rate=1e-3, mode=mode))
    assert done.losses[-1] < done.losses[0]
    assert modes == [m.training for m in (*student.modules(), *teacher.modules())]


def test_the_modes_are_those_that_were_asked_for_and_norms_are_frozen_by_choice() -> None:
    teacher, student = pair(Detector)
    seen: list[tuple[bool, ...]] = []

    def loss(output: Any, batch: Any) -> Tensor:
        seen.append(
            (student.training, student.backbone.norm.training, teacher.training, teacher.backbone.norm.training)
        )
        raw = output["raw"].boxes if student.training else output[0]
        return raw.square().mean()

    means = student.backbone.norm.running_mean.clone(), teacher.backbone.norm.running_mean.clone()
    expected: dict[Any, tuple[bool, ...]] = {
        (None, True): (True, False, True, False),
        ("eval", True): (False, False, False, False),
        ("eval", False): (False, True, False, False),
        ("train", False): (True, True, True, False),
    }
    for (mode, frozen), modes in expected.items():
        seen.clear()
        finetune(student, teacher, pictures(1), training=Training(1, mode=mode, freeze_norms=frozen), loss=loss)
        assert seen == [modes]
        assert torch.equal(student.backbone.norm.running_mean, means[0]) == frozen or not frozen
    assert not torch.equal(student.backbone.norm.running_mean, means[0])
    assert torch.equal(teacher.backbone.norm.running_mean, means[1])


def test_random_layers_drop_the_same_values_in_both_networks() -> None:
    teacher, student = pair(Auxiliary)
    for quantizer in quantizers(student).values():
        quantizer.disable()
    done = finetune(student, teacher, pictures(1), training=Training(1, mode="train", distillation=0))
    assert done.losses == (0.0,)


def boxes_loss(model: nn.Module, batch: Any) -> Tensor:
    """The loss of a network that needs its targets."""
    losses = model(batch["image"], batch["boxes"])
    return losses["box"] + losses["score"]


def test_a_network_that_returns_losses_trains_with_them_and_with_its_features() -> None:
    teacher, student = pair(LossDetector)
    alone = Training(epochs=4, rate=5e-3, distillation=0, output=0)
    done = finetune(copy.deepcopy(student), teacher, pictures(), training=alone, loss=boxes_loss)
    assert done.losses[-1] < done.losses[0] and done.supervised == ()
    both = finetune(student, teacher, pictures(), training=FEW, loss=boxes_loss)
    assert both.losses[-1] < both.losses[0] and "boxes.0" in both.supervised
    assert both.losses[0] > done.losses[0]
    finetune(student, teacher, pictures(), training=Training(epochs=1))
    with pytest.raises(
        TorchError, match=r"ValueError: targets are needed in train mode; this is in mode train: a loss"
    ):
        finetune(student, teacher, pictures(), training=Training(epochs=1, mode="train"))


def test_a_loss_takes_the_output_unless_its_first_parameter_is_named_model() -> None:
    teacher, student = pair(Detector)
    seen: list[str] = []

    def of_output(found: Any, batch: Any) -> Tensor:
        seen.append(described(found))
        return found["raw"].boxes.mean()

    class OfModel:
        def __call__(self, model: nn.Module, batch: Any) -> Tensor:
            seen.append(type(model).__name__)
            return model(batch["image"])["raw"].boxes.mean()

    def given(value: Any, output: Any, batch: Any) -> Any:
        return value

    how = Training(epochs=1, steps=1)
    finetune(student, teacher, pictures(), training=how, loss=of_output)
    finetune(student, teacher, pictures(), training=how, loss=OfModel())
    raw = "Raw{boxes: float32[2, 4, 80], scores: [float32[2, 2, 8, 8], float32[2, 2, 4, 4]], stride: int}"
    assert seen == [f"{{raw: {raw}}}", "Detector", "Detector"]
    for wrong, shown in (([1.0], r"\[float\]"), (torch.ones(3), r"float32\[3\]")):
        with pytest.raises(TorchError, match=rf"the loss returns {shown}: return a tensor of one element"):
            finetune(student, teacher, pictures(), training=how, loss=partial(given, wrong))


def test_the_weights_mix_the_parts_and_a_part_of_weight_0_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = pair(Detector)

    def part(**weights: float) -> float:
        given: Any = {"distillation": 0, "output": 0, "task": 0, **weights}
        how = Training(epochs=1, steps=1, rate=1e-9, **given)
        task = lambda output, batch: output["raw"].boxes.square().mean()  # noqa: E731
        return finetune(copy.deepcopy(student), teacher, pictures(), training=how, loss=task).losses[0]

    features, outputs, task = part(distillation=1), part(output=1), part(task=1)
    assert min(features, outputs, task) > 0
    mixed = part(distillation=2, output=3, task=0.5)
    assert mixed == pytest.approx(2 * features + 3 * outputs + 0.5 * task, rel=1e-5)
    asked: list[str] = []
    real = feature_distance

    def counted(ours: Any, theirs: Any, names: tuple[str, ...]) -> Tensor | None:
        asked.extend(names)
        return real(ours, theirs, names)

    monkeypatch.setattr(objective, "feature_distance", counted)
    part(distillation=1)
    assert "" not in asked and len(asked) > 3
    asked.clear()
    teacher.forward = None  # the teacher does not even run
    part(task=1)
    assert asked == []


class Cut(nn.Module):
    """A network whose answer another one of the same modules gives in another structure or shape."""

    def __init__(self, how: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.how = nn.Conv2d(3, 4, 1), how

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        return {"": {"a": y}, "list": [y], "more": {"a": y, "b": y}, "broadcast": {"a": y[:1]}}[self.how]


@pytest.mark.parametrize(
    ("how", "shown"),
    [
        ("list", r"\{a: float32\[2, 4, 8, 8\]\}, and the teacher gives \[float32\[2, 4, 8, 8\]\]"),
        ("more", r"\{a: float32\[2, 4, 8, 8\]\}, and the teacher gives \{a: float32\[2, 4, 8, 8\], b: float32"),
        ("broadcast", r"\{a: float32\[2, 4, 8, 8\]\}, and the teacher gives \{a: float32\[1, 4, 8, 8\]\}"),
    ],
)
def test_outputs_that_differ_in_structure_or_shape_are_named_both(
    how: str, shown: str, recwarn: pytest.WarningsRecorder
) -> None:
    student = Cut()
    quantize(student)
    calibrate(student, pictures(), progress=False)
    with pytest.raises(TorchError, match=rf"the outputs cannot be compared: the model gives {shown}"):
        finetune(student, Cut(how), pictures())
    assert not [w for w in recwarn if "broadcast" in str(w.message)]
    done = finetune(student, Cut(how), pictures(), training=Training(epochs=1, output=0))
    assert done.supervised == ("conv",)


class Named(NamedTuple):
    """An output with names."""

    logits: Tensor
    picked: Tensor


def test_distances_are_of_what_a_gradient_flows_through() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    far, zero, index = torch.tensor([1.0, 4.0]), torch.zeros(0), torch.tensor([3])
    whole = distance(x, far, "the outputs")
    assert whole is not None and whole.item() == pytest.approx(2 / 8.5)
    nested = distance(
        {"a": [Named(x, index)], "b": (None, 3, "text", zero)},
        {"a": [Named(far, index + 1)], "b": (None, 4, "", zero)},
        "",
    )
    assert nested is not None and nested.item() == pytest.approx(whole.item())
    scalar = x.sum()
    assert distance((x.detach(), index, scalar), (far, index, scalar), "") is None
    half = distance(Raw(x, [x]), Raw(far, [x.detach()]), "")
    assert half is not None and half.item() == pytest.approx(1 / 8.5)
    with pytest.raises(TorchError, match=r"int64\[1\]"):
        distance((x, index), (far, index.float()), "the outputs")


def test_what_no_gradient_reaches_is_an_error() -> None:
    class Detached(Cut):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x)["a"].detach()

    student = Detached()
    quantize(student)
    calibrate(student, pictures(), progress=False)
    with pytest.raises(TorchError, match=r"no gradient reaches a weight in mode eval"):
        finetune(student, Detached(), pictures(), training=Training(distillation=0))


def test_an_auxiliary_head_is_float_while_it_trains_and_the_export_is_calibrated(tmp_path: Path) -> None:
    teacher, student = pair(Auxiliary)
    assert quantizers(student)["aux._input_quantizer"].amax is None
    lines: list[str] = []
    how = Training(epochs=1, mode="train", rate=1e-2)
    finetune(student, teacher, pictures(), training=how, progress=lines.append)
    assert lines[0].startswith("in float while training") and "aux._input_quantizer" in lines[0]
    assert not torch.equal(student.aux.weight, teacher.aux.weight)
    assert quantizers(student)["aux._input_quantizer"].amax is None
    export(student.eval(), pictures()[0]["image"], tmp_path / "net.onnx")
    quantizers(student)["head._input_quantizer"].set_amax(None)
    with pytest.raises(TorchError, match=r"calibrate first: head._input_quantizer has no amax"):
        finetune(student, teacher, pictures(), training=how)


def test_a_module_that_runs_several_times_is_compared_in_each_run() -> None:
    class Shared(Cut):
        times = 3

        def forward(self, x: Tensor) -> Any:
            return [self.conv(x * k) for k in range(1, self.times + 1)]

    student, teacher = Shared(), Shared()
    quantize(student)
    calibrate(student, pictures(), progress=False)
    finetune(student, teacher, pictures(), training=Training(epochs=1))
    teacher.times = 2
    with pytest.raises(TorchError, match=r"the output of conv cannot be compared: it ran 3 times in the model and 2"):
        finetune(student, teacher, pictures(), training=Training(epochs=1, output=0))
