"""Folding, saved states, sensitivity and quantization-aware training."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import Tensor, nn

from qdqgraph.errors import TorchError
from qdqgraph.torch import (
    Config,
    Training,
    calibrate,
    finetune,
    load,
    quantize,
    quantizers,
)
from qdqgraph.torch.training.optimization import learning_rate
from tests.support.torch_networks import X


def teacher_and_student() -> tuple[Any, Any, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    student = copy.deepcopy(teacher)
    quantize(student, Config())
    batches = [(torch.randn(8, 4, 6, 6), torch.randint(0, 2, (8,))) for _ in range(6)]
    calibrate(student, batches)
    for quantizer in quantizers(student).values():
        quantizer.set_amax(quantizer.amax * 0.3)  # a bad start, so that there is something to learn
    return teacher, student, batches


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_training_brings_the_student_nearer_and_leaves_the_teacher_alone(schedule: Any, tmp_path: Path) -> None:
    teacher, student, batches = teacher_and_student()
    before = copy.deepcopy(teacher.state_dict())
    amax = {n: q.amax.clone() for n, q in quantizers(student).items()}

    def near(model: nn.Module) -> float:
        with torch.no_grad():
            return -float((model(batches[0][0]) - teacher.eval()(batches[0][0])).square().mean())

    start = near(student.eval())
    done = finetune(
        student,
        teacher,
        batches,
        training=Training(epochs=4, rate=5e-3, schedule=schedule),
        evaluate=near,
        checkpoint=tmp_path / "best.pt",
    )
    assert done.scores[0] == pytest.approx(start) and near(student.eval()) == max(done.scores) > start
    assert done.losses[-1] < done.losses[0] and done.supervised == ("0", "3")
    assert all(torch.equal(v, teacher.state_dict()[k]) for k, v in before.items())
    assert all(torch.equal(amax[n], q.amax) for n, q in quantizers(student).items())
    assert torch.equal(student[1].running_mean, teacher[1].running_mean)
    restored, _, _ = teacher_and_student()
    load(restored, tmp_path / "best.pt")
    assert torch.equal(restored.eval()(X), student.eval()(X))


def test_the_best_epoch_is_kept_also_where_training_makes_it_worse() -> None:
    teacher, student, batches = teacher_and_student()
    before = copy.deepcopy(student.state_dict())
    scores = iter([9.0, 1.0, 2.0])
    done = finetune(student, teacher, batches, training=Training(epochs=2), evaluate=lambda model: next(scores))
    assert done.best == 0 and all(torch.equal(v, student.state_dict()[k]) for k, v in before.items())


def test_what_is_supervised_is_chosen_with_a_stride_and_the_tasks_loss_counts() -> None:
    teacher, student, batches = teacher_and_student()
    done = finetune(student, teacher, batches, training=Training(epochs=1, steps=2), stride=2)
    assert done.supervised == ("0",) and done.best == 1
    done = finetune(student, teacher, batches, training=Training(epochs=1, steps=1), supervise=["2", "3"])
    assert done.supervised == ("2", "3")
    seen: list[int] = []

    def loss(found: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        seen.append(len(batch[1]))
        return nn.functional.cross_entropy(found.mean((2, 3)), batch[1])

    finetune(student, teacher, batches, training=Training(epochs=1), loss=loss)
    assert seen == [8] * 6


def test_learning_rates_fall_as_the_schedule_says() -> None:
    how = Training(epochs=10, rate=1.0)
    cosine = [learning_rate(how, e, 0.0) for e in range(1, 11)] + [learning_rate(how, 10, 1.0)]
    assert cosine[0] == 1 and cosine == sorted(cosine, reverse=True) and cosine[-1] == pytest.approx(0.01)
    steps = [
        learning_rate(Training(epochs=4, rate=1.0, schedule="step", milestones=(1, 3)), e, 0.5) for e in range(1, 5)
    ]
    assert steps == pytest.approx([1, 0.1, 0.1, 0.01])


def test_training_that_cannot_begin_or_breaks_is_an_error_and_leaves_the_weights() -> None:
    teacher, student, batches = teacher_and_student()
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(TorchError, match=r"no batch to train"):
        finetune(student, teacher, [])
    with pytest.raises(TorchError, match=r"no module matches 'head'"):
        finetune(student, teacher, batches, supervise="head")
    with pytest.raises(TorchError, match=r"the teacher has no module"):
        finetune(student, nn.Sequential(nn.Conv2d(4, 8, 3)), batches)
    with pytest.raises(TorchError, match=r"the loss is nan in step 1"):
        finetune(student, teacher, [(x * float("nan"), y) for x, y in batches])
    assert all(torch.equal(v, student.state_dict()[k]) for k, v in before.items())
    quantizers(student)["0._input_quantizer"].set_amax(None)
    with pytest.raises(TorchError, match=r"calibrate first: 0._input_quantizer"):
        finetune(student, teacher, batches)


class Caching(nn.Module):
    """Keeps, in eval mode, a tensor that it computes from a parameter, as timm's LeViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.bias = nn.Linear(4, 4), nn.Parameter(torch.zeros(4))
        self.kept: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.kept is None or not self.kept.requires_grad:
            self.kept = self.bias * 2
        out: Tensor = self.layer(x) + self.kept
        return out


def test_a_backward_pass_that_fails_is_one_sentence_and_another_mode_works() -> None:
    torch.manual_seed(0)
    student, teacher, batches = Caching(), Caching(), [torch.rand(2, 4), torch.rand(2, 4)]
    quantize(student)
    calibrate(student, batches)
    with pytest.raises(
        TorchError, match=r"^the backward pass fails: Trying to backward .* a second time.*another mode"
    ):
        finetune(student, teacher, batches, training=Training(epochs=1))
    assert finetune(student, teacher, batches, training=Training(epochs=1, mode="train")).best == 1


def test_weights_of_half_precision_that_break_are_told_how_to_train() -> None:
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Conv2d(4, 4, 3)).half() for _ in range(2))
    x = torch.rand(2, 4, 8, 8).half()
    quantize(student)
    calibrate(student, [x])
    with pytest.raises(TorchError, match=r"the loss is nan in step 2 .*: train float32 weights with precision float16"):
        finetune(student, teacher, [x, x * float("nan")], training=Training(epochs=1))
