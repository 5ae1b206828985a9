"""Optimizers, schedules, averages, precision and trainable amax of a training run."""

from __future__ import annotations

import copy
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from qdqgraph.errors import TorchError
from qdqgraph.torch import Training, calibrate, finetune, quantize, quantizers
from qdqgraph.torch.quantizer.quantizer import QuantDescriptor, new_quantizer
from qdqgraph.torch.training.learned import SMALLEST, TrainedQuantizer, training_quantizers
from qdqgraph.torch.training.optimization import Average


def pair(worse: float = 0.4) -> tuple[Any, Any, list[Tensor]]:
    """A float network, its quantized copy with scales that are too small, and batches."""
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1)).eval()
    student = copy.deepcopy(teacher)
    quantize(student)
    batches = [torch.randn(4, 4, 6, 6) for _ in range(4)]
    calibrate(student, batches, progress=False)
    for quantizer in quantizers(student).values():
        quantizer.set_amax(quantizer.amax * worse)
    return teacher, student, batches


def rates_of(student: Any, teacher: Any, batches: list[Tensor], how: Training, **more: Any) -> list[list[float]]:
    """The learning rates of all groups, after each step."""
    seen: list[list[float]] = []
    handle = register_optimizer_step_post_hook(lambda o, *_: seen.append([g["lr"] for g in o.param_groups]))
    try:
        finetune(student, teacher, batches, training=how, **more)
    finally:
        handle.remove()
    return seen


@pytest.mark.parametrize(
    ("name", "args"),
    [("SGD", {"momentum": 0.9, "nesterov": True}), ("RMSprop", {}), ("Adafactor", {}), ("NAdam", {}), ("Rprop", {})],
)
def test_optimizers_are_found_by_name_with_their_arguments(name: str, args: dict[str, Any]) -> None:
    teacher, student, batches = pair()
    how = Training(epochs=3, rate=1e-3, optimizer=name, optimizer_args=args)
    done = finetune(student, teacher, batches, training=how)
    assert done.losses[-1] < done.losses[0]


def test_schedules_of_torch_are_called_after_each_epoch_or_step_as_torch_says() -> None:
    teacher, student, batches = pair()

    def rates(name: str, epochs: int = 3, **args: Any) -> list[float]:
        how = Training(epochs=epochs, rate=1e-3, schedule=name, schedule_args=args, steps=2)
        return [r[0] for r in rates_of(copy.deepcopy(student), teacher, batches, how)]

    assert rates("ExponentialLR", gamma=0.5) == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4])
    cosine = rates("CosineAnnealingLR")
    assert cosine == sorted(cosine, reverse=True) and cosine[-1] < 5e-4
    once = rates("OneCycleLR")
    assert len(set(once)) == len(once) and max(once) <= 1e-3
    plateau = rates("ReduceLROnPlateau", epochs=4, patience=0, threshold=10.0)
    assert plateau[0] == 1e-3 > plateau[-1]


def test_a_schedule_on_a_plateau_watches_the_score_where_there_is_one() -> None:
    teacher, student, batches = pair()
    how = Training(epochs=4, rate=1e-3, schedule="ReduceLROnPlateau", schedule_args={"patience": 0}, steps=1)
    rising, falling = iter([1.0, 2, 3, 4, 5]), iter([5.0, 4, 3, 2, 1])
    steady = rates_of(copy.deepcopy(student), teacher, batches, how, evaluate=lambda model: next(rising))
    reduced = rates_of(copy.deepcopy(student), teacher, batches, how, evaluate=lambda model: next(falling))
    assert steady[-1] == [1e-3] and reduced[-1][0] < 1e-4


def test_the_moving_average_is_what_is_scored_and_kept() -> None:
    teacher, student, batches = pair()
    plain = copy.deepcopy(student)
    finetune(plain, teacher, batches, training=Training(epochs=2, rate=1e-2))
    averaged, scored = copy.deepcopy(student), list[Tensor]()

    def score(model: Any) -> float:
        scored.append(model[0].weight.clone())
        return len(scored)

    finetune(averaged, teacher, batches, training=Training(epochs=2, rate=1e-2, average=0.9), evaluate=score)
    assert torch.equal(scored[-1], averaged[0].weight) and not torch.equal(averaged[0].weight, plain[0].weight)


def test_an_average_decays_as_it_says_and_begins_fast() -> None:
    model = nn.BatchNorm1d(1)
    average = Average(model, 0.25)
    for value in (1.0, 2.0, 3.0):
        nn.init.constant_(model.weight, value)
        average.update()
    expected = 1.0
    for step, value in ((1, 1.0), (2, 2.0), (3, 3.0)):
        decay = min(0.25, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * value
    with average.in_place():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 3.0


def test_training_stops_when_it_gets_no_better() -> None:
    teacher, student, batches = pair()
    scores = iter([1.0, 2.0, 1.5, 1.9, 9.0])
    lines: list[str] = []
    how = Training(epochs=9, patience=2)
    done = finetune(student, teacher, batches, training=how, evaluate=lambda m: next(scores), progress=lines.append)
    assert done.scores == (1.0, 2.0, 1.5, 1.9) and done.best == 1 and "stopped after 2 epochs" in lines[-1]
    much = Training(epochs=30, rate=0.5, patience=1, clip=None)
    assert len(finetune(student, teacher, batches, training=much).losses) < 30


def test_gradients_are_clipped_to_a_norm() -> None:
    def moved(clip: float | None) -> float:
        teacher, student, batches = pair()
        before = student[0].weight.detach().clone()
        how = Training(epochs=1, steps=1, rate=1.0, optimizer="SGD", clip=clip)
        finetune(student, teacher, batches, training=how)
        return float((student[0].weight.detach() - before).norm())

    assert moved(1e-3) <= 1.001e-3 < moved(None)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_trains_and_quantizers_round_in_float32(precision: Any) -> None:
    teacher, student, batches = pair()
    seen = set[torch.dtype]()

    def watch(module: Any, args: Any, output: Tensor) -> None:
        seen.add(output.dtype)

    student[3].register_forward_hook(watch)
    how = Training(epochs=4, rate=3e-3, precision=precision)
    done = finetune(student, teacher, batches, training=how)
    assert done.losses[-1] < done.losses[0] and seen == {getattr(torch, precision)}
    assert student[0].weight.dtype == torch.float32
    quantizer = new_quantizer(QuantDescriptor())
    quantizer.set_amax(torch.tensor(3.0))
    x = torch.randn(200).to(getattr(torch, precision))
    expected = quantizer(x.float()).to(x.dtype)
    with training_quantizers(nn.Sequential(quantizer), learn_amax=False), torch.autocast("cpu", x.dtype):
        assert torch.equal(quantizer(x), expected)


@pytest.mark.parametrize("shape", [(), (3, 1, 1)])
def test_the_gradients_of_a_trained_amax_are_those_of_lsq(shape: tuple[int, ...]) -> None:
    """Compared with automatic differentiation of the paper's equation, with straight-through rounding."""
    torch.manual_seed(0)
    x = torch.randn(3, 5, 7, requires_grad=True)
    amax, weight = torch.rand(shape) + 0.5, torch.randn(3, 5, 7)
    quantizer = new_quantizer(QuantDescriptor(axis=0 if shape else None))
    quantizer.set_amax(amax)
    expected = quantizer(x).detach()
    with training_quantizers(nn.Sequential(quantizer), learn_amax=True) as learned:
        output = quantizer(x)
        assert torch.equal(output, expected)
        torch.autograd.backward((output * weight).sum())
        (parameter,) = learned
        got, got_x, x.grad = parameter.grad, x.grad, None
    step = (amax / 127).requires_grad_()
    scaled = x / step
    clipped = scaled.clamp(-127, 127)
    rounded = clipped + (clipped.round() - clipped).detach()
    torch.autograd.backward((rounded * step * weight).sum())
    assert got_x is not None and got is not None and step.grad is not None and x.grad is not None
    torch.testing.assert_close(got_x, x.grad)
    count = x.numel() / amax.numel()
    torch.testing.assert_close(got, step.grad / (count * 127) ** 0.5 * 127, rtol=1e-4, atol=1e-5)


def test_amax_trains_where_it_is_asked_to_and_stays_a_buffer() -> None:
    teacher, student, batches = pair(worse=0.3)
    before = {n: q.amax.clone() for n, q in quantizers(student).items()}
    keys, classes = list(student.state_dict()), {n: type(q) for n, q in quantizers(student).items()}
    how = Training(epochs=6, rate=1e-5, learn_amax=True, amax_rate=2e-2, decay=0.5)
    done = finetune(student, teacher, batches, training=how)
    assert done.losses[-1] < 0.7 * done.losses[0]
    grown = [bool((q.amax > before[n]).all()) for n, q in quantizers(student).items() if "input" in n]
    assert all(grown)
    assert {n: type(q) for n, q in quantizers(student).items()} == classes
    assert all("_amax" in q._buffers for q in quantizers(student).values())
    assert set(student.state_dict()) == set(keys)
    assert not [q for q in student.modules() if isinstance(q, TrainedQuantizer)]


def test_a_step_cannot_make_amax_zero_or_negative() -> None:
    teacher, student, batches = pair()
    before = {n: q.amax.clone() for n, q in quantizers(student).items()}
    how = Training(epochs=3, rate=1e-6, learn_amax=True, amax_rate=1e3, optimizer="SGD", clip=None)
    finetune(student, teacher, batches, training=how)
    assert all(bool((q.amax >= before[n] * SMALLEST * 0.999).all()) for n, q in quantizers(student).items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs 0: give a number above 0"),
        ({"rate": float("nan")}, "rate nan: give a number above 0"),
        ({"patience": 0}, "patience 0"),
        ({"average": 1.0}, r"average 1\.0: give a number above 0 and below 1"),
        ({"mode": "test"}, "mode 'test': write eval, train"),
        ({"precision": "int8"}, "precision 'int8': write float32, bfloat16, float16"),
        ({"amax_rate": 1.0}, "amax_rate has no effect without learn_amax"),
        ({"distillation": 0, "output": 0}, "there is nothing to train with"),
        ({"optimizer": "Adams"}, r"there is no optimizer 'Adams'; did you mean 'Adam"),
        ({"optimizer": "LBFGS"}, "optimizer LBFGS evaluates the loss several times"),
        (
            {"optimizer": "SGD", "optimizer_args": {"beta": 1}},
            "optimizer SGD has no argument 'beta'; its arguments are mom",
        ),
        ({"optimizer": "SGD", "optimizer_args": {"lr": 1}}, "SGD: lr is set by the other settings"),
        ({"optimizer": "Rprop", "decay": 0.1}, "Rprop has no argument 'weight_decay'"),
        ({"optimizer": "SGD", "optimizer_args": {"momentum": -1}}, "optimizer SGD cannot be used: Invalid momentum"),
        ({"schedule": "cosin"}, "there is no schedule 'cosin'; did you mean 'cosine'"),
        ({"schedule": "StepLR"}, "schedule StepLR needs the argument 'step_size'"),
        ({"schedule": "StepLR", "schedule_args": {"size": 1}}, "schedule StepLR has no argument 'size'"),
        ({"schedule_args": {"gamma": 1}}, "schedule 'cosine' has no arguments"),
        (
            {"schedule": "CyclicLR", "schedule_args": {"base_lr": 1e-5}},
            "schedule CyclicLR cannot be used: optimizer must",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    teacher, student, batches = pair()
    before = copy.deepcopy(student.state_dict())
    given: dict[str, Any] = {"optimizer": "Adagrad"} if "CyclicLR" in settings.values() else {}
    with pytest.raises(TorchError, match=message):
        finetune(student, teacher, batches, training=Training(**given, **settings))
    assert all(torch.equal(x, student.state_dict()[n]) for n, x in before.items())


def test_a_schedule_needs_the_length_of_the_data() -> None:
    teacher, student, batches = pair()
    endless = (x for x in batches)
    with pytest.raises(TorchError, match="schedule OneCycleLR needs the number of batches per epoch: give steps"):
        finetune(student, teacher, endless, training=Training(epochs=1, schedule="OneCycleLR"))
