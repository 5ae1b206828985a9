"""Folding, saved states, sensitivity and quantization-aware training."""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import Tensor, nn

from benchmarks.torch_networks.accuracy import Flow
from benchmarks.torch_networks.trained import Data, answers
from qdqgraph.errors import ModelError, TorchError
from qdqgraph.torch import (
    Config,
    Operator,
    Sensitivity,
    Training,
    apply_sensitivity,
    calibrate,
    export,
    finetune,
    fold_norms,
    link,
    load,
    quantize,
    quantizers,
    save,
    sensitivity,
)
from qdqgraph.torch.quantizer.quantizer import quantizer_paths
from qdqgraph.torch.training.digest import state_digest
from qdqgraph.torch.training.optimization import learning_rate
from qdqgraph.torch.training.plot import svg
from qdqgraph.torch.training.sensitivity import units
from tests.support.torch_networks import X, residual


class Normed(nn.Module):
    """BatchNorms that can be folded, and one whose input has another reader, one used twice, one after a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.a = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.up, self.b = nn.ConvTranspose2d(4, 6, 2, groups=2), nn.BatchNorm2d(6, affine=False)
        self.other, self.c = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.twice, self.d, self.e = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        self.fc, self.f = nn.Linear(6, 3), nn.BatchNorm1d(3)
        module: Any
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert module.running_mean is not None and module.running_var is not None
                nn.init.uniform_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.up(torch.relu(self.a(self.conv(x)))))
        y = self.other(x)
        x = self.c(y) + y
        x = self.e(torch.relu(self.d(self.twice(self.d(self.twice(x))))))
        out: Tensor = self.f(self.fc(x.mean((2, 3))))
        return out


def test_norms_are_folded_where_that_is_exact_and_left_where_it_is_not() -> None:
    model = Normed()
    expected = copy.deepcopy(model).eval()(X)
    assert fold_norms(model, X) == ("a", "b", "f")
    torch.testing.assert_close(model(X), expected)
    assert isinstance(model.a, nn.Identity) and isinstance(model.d, nn.BatchNorm2d)
    assert fold_norms(model, X) == ()


def linked() -> nn.Module:
    model = residual()
    quantize(model, Config(operators=(Operator("add", "both", modules="1"),)), X)
    link(model, X)
    calibrate(model, [X], method="percentile")
    return model


def test_a_saved_state_restores_ties_amax_and_switches_without_calibrating(tmp_path: Path) -> None:
    model = linked()
    quantizers(model)["1.downsample._weight_quantizer"].disable()
    save(model, tmp_path / "state.pt")
    fresh = residual()
    with torch.no_grad():
        fresh[0].conv1.weight.zero_()  # type: ignore[index]
    load(fresh, tmp_path / "state.pt")
    assert torch.equal(fresh.eval()(X), model.eval()(X))
    assert [n for n, q in quantizers(fresh).items() if q._disabled] == [
        n for n, q in quantizers(model).items() if q._disabled
    ]
    shared = [
        {n for n, q in quantizer_paths(m).items() if q is quantizer_paths(m)["0.conv1._input_quantizer"]}
        for m in (model, fresh)
    ]
    assert shared[0] == shared[1] and len(shared[0]) == 2
    load(fresh, tmp_path / "state.pt")
    assert torch.equal(fresh(X), model(X))


def test_a_state_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, file = linked(), tmp_path / "state.pt"
    save(model, file)
    before = file.read_bytes()

    def cut(content: Any, file: Any) -> None:
        file.write(before[:100])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(torch, "save", cut)
        save(model, file, force=True)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]
    with pytest.raises(ModelError, match=r"nowhere does not exist"):
        save(model, tmp_path / "nowhere" / "state.pt")


def test_files_are_replaced_only_on_request(tmp_path: Path) -> None:
    model, file = linked(), tmp_path / "mine.bin"
    teacher = residual().eval()
    training = Training(epochs=1, distillation=0.0, output=1.0)
    writers: dict[str, Callable[[bool], Any]] = {
        "save": lambda force: save(model, file, force=force),
        "export": lambda force: export(model, X, file, force=force),
        "finetune": lambda force: finetune(model, teacher, [X], training=training, checkpoint=file, force=force),
    }
    for write in writers.values():
        file.write_text("mine")
        with pytest.raises(ModelError, match=r"mine\.bin exists; use --force"):
            write(False)
        assert file.read_text() == "mine"
        write(True)
        assert file.read_bytes() != b"mine"


def test_a_digest_is_of_weights_and_amax_alone(tmp_path: Path) -> None:
    model = linked()
    known = state_digest(model.state_dict())
    save(model, tmp_path / "state.pt")
    fresh = residual()
    load(fresh, tmp_path / "state.pt")
    assert state_digest(fresh.state_dict()) == known and state_digest(model.to(torch.bfloat16).state_dict()) != known
    quantizers(fresh)["0.conv1._input_quantizer"].set_amax(torch.tensor(9.0))
    assert state_digest(fresh.state_dict()) != known


def test_a_buffer_that_is_an_expanded_number_is_saved_and_counted(tmp_path: Path) -> None:
    model, fresh = residual(), residual()
    for each, value in ((model, 2.0), (fresh, 3.0)):
        each.register_buffer("gain", torch.tensor(value).expand(1))
        quantize(each)
    calibrate(model, [X])
    save(model, tmp_path / "state.pt")
    assert state_digest(fresh.state_dict()) != state_digest(model.state_dict())
    load(fresh, tmp_path / "state.pt")
    assert state_digest(fresh.state_dict()) == state_digest(model.state_dict())


class Counting(nn.Module):
    """With a state beside its tensors, as modules of other libraries have it."""

    def __init__(self, extra: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.extra = nn.Conv2d(4, 4, 1), extra

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        self.extra = state


def test_a_modules_extra_state_is_saved_where_it_is_plain_data_and_no_part_of_a_digest(tmp_path: Path) -> None:
    model, fresh = Counting({"seen": 3, "mean": [torch.tensor(0.5)]}), Counting(None)
    quantize(model)
    calibrate(model, [X])
    known = state_digest(model.state_dict())
    save(model, tmp_path / "state.pt")
    load(fresh, tmp_path / "state.pt")
    assert fresh.extra == model.extra and torch.equal(fresh(X), model(X))
    fresh.extra = {"seen": 4}
    assert state_digest(fresh.state_dict()) == known
    for odd in (Path("a"), lambda: 3):
        model.extra = odd
        with pytest.raises(TorchError, match=rf"_extra_state: this {type(odd).__name__}, .* cannot be saved"):
            save(model, tmp_path / "other.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


def test_an_lstm_is_saved_with_its_lists_of_quantizers(tmp_path: Path) -> None:
    model, x = nn.Sequential(nn.LSTM(4, 3, num_layers=2, bidirectional=True)), torch.rand(5, 2, 4)
    fresh = copy.deepcopy(model)
    quantize(model)
    calibrate(model, [x])
    save(model, tmp_path / "state.pt")
    load(fresh, tmp_path / "state.pt")
    assert torch.equal(fresh(x)[0], model(x)[0])


def test_a_file_that_is_no_state_or_another_networks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TorchError, match=r"no quantizers"):
        save(residual(), tmp_path / "a.pt")
    with pytest.raises(TorchError, match=r"cannot be read"):
        load(residual(), tmp_path / "missing.pt")
    (tmp_path / "text.pt").write_text("state")
    with pytest.raises(TorchError, match=r"cannot be read"):
        load(residual(), tmp_path / "text.pt")
    torch.save({"version": 99}, tmp_path / "b.pt")
    with pytest.raises(TorchError, match="not a quantized state"):
        load(residual(), tmp_path / "b.pt")
    save(linked(), tmp_path / "c.pt")
    with pytest.raises(TorchError, match=r"another network"):
        load(nn.Sequential(nn.Conv2d(4, 4, 1)), tmp_path / "c.pt")


class Names(nn.Module):
    """Layers of which one's path is the beginning of another's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer1, self.layer10 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self._last = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._last(self.layer1(x) + self.layer10(x * 5))
        return out


def scored(model: nn.Module) -> float:
    """A score that says which quantizers are on: one digit each, in the order of the layers."""
    found = {n: q for n, q in quantizer_paths(model).items() if "input" in n}
    return float("".join(str(int(not q._disabled)) for q in found.values()))


def test_units_are_switched_one_at_a_time_by_exact_name() -> None:
    model = Names()
    quantize(model)
    off = sensitivity(model, scored)
    assert (off.quantized, off.unquantized) == (111, 0)
    assert {u.name: u.score for u in off.units} == {"layer1": 11, "layer10": 101, "_last": 110}
    on = sensitivity(model, scored, direction="enable")
    assert {u.name: u.score for u in on.units} == {"layer1": 100, "layer10": 10, "_last": 1}
    assert scored(model) == 111


def test_layers_that_share_a_quantizer_are_one_unit() -> None:
    model = linked()
    names = [set(u) for u in units(model)]
    assert {"0.conv1", "0._functional.add_0"} in names
    assert {"1.conv1", "1.downsample"} in [n - {"1._functional.add_0"} for n in names]
    assert {"0.conv2"} in names
    by_block = units(model, ["0", "1"])
    assert sorted(len(u) for u in by_block) in ([1, 1], [2])
    with pytest.raises(TorchError, match=r"no module '2'"):
        units(model, ["2"])
    with pytest.raises(TorchError, match=r"'1.relu' contains no enabled quantizer"):
        units(model, ["0", "1.relu"])


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    file, calls = tmp_path / "s.json", 0

    def failing(model: nn.Module) -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return scored(model)

    model = Names()
    quantize(model)
    with pytest.raises(KeyboardInterrupt):
        sensitivity(model, failing, file=file)
    assert scored(model) == 111
    result = sensitivity(model, failing, file=file)
    assert calls == 6 and result == sensitivity(model, scored) == Sensitivity.from_json(file.read_text())
    with pytest.raises(TorchError, match=r"ranking by direction 'disable'"):
        sensitivity(model, scored, direction="enable", file=file)
    quantizers(model)["layer1._input_quantizer"].set_amax(torch.tensor(2.0))
    with pytest.raises(TorchError, match=r"other weights or amax"):
        sensitivity(model, scored, file=file)
    for content in (b"{}", b"\xff\xfe", b"[]", b"no JSON"):
        file.write_bytes(content)
        with pytest.raises(TorchError, match=r"s\.json: this is not a sensitivity result"):
            sensitivity(model, scored, file=file)


def test_the_benchmark_ranks_a_network_once_for_all_methods(tmp_path: Path) -> None:
    network = residual()
    inputs = (X[:1],)
    flow = Flow("net", network, Data(inputs, inputs, inputs), tmp_path, tmp_path, [], answers(network, inputs))
    first, _ = flow.quantized("max", link=True)
    ranked = flow.ranking(first)
    written = (tmp_path / "net.json").read_bytes()
    again, _ = flow.quantized("entropy", link=True)
    assert flow.ranking(again) == ranked and (tmp_path / "net.json").read_bytes() == written
    (tmp_path / "net.json").write_text(replace(ranked, units=ranked.units[1:]).to_json())
    assert flow.ranking(first) == ranked


def test_results_are_ranked_and_written_as_json_csv_and_picture() -> None:
    model = Names()
    quantize(model)
    result = sensitivity(model, scored, direction="enable")
    assert [u.cost for u in result.units] == sorted((u.cost for u in result.units), reverse=True)
    assert Sensitivity.from_json(result.to_json()) == result
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [r["unit"] for r in rows] == [u.name for u in result.units] and rows[0]["rank"] == "1"
    picture = ElementTree.fromstring(svg(result))
    texts = [t.text for t in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert [t for t in texts if t in {u.name for u in result.units}] == [u.name for u in result.units]


def test_the_most_expensive_units_are_switched_off_and_the_rest_is_linked_again() -> None:
    model = linked()
    costs = {"0.conv2": 5.0, "1.conv2": 3.0}

    def judged(model: nn.Module) -> float:
        found = quantizers(model)
        return -sum(c for n, c in costs.items() if not found[f"{n}._input_quantizer"]._disabled)

    result = sensitivity(model, judged)
    assert [(u.name, u.cost) for u in result.units[:2]] == [("0.conv2", 5.0), ("1.conv2", 3.0)]
    for options, expected in (
        ({"top": 1}, ("0.conv2",)),
        ({"budget": 3.0}, ("0.conv2",)),
        ({"budget": 1.0}, tuple(costs)),
    ):
        copied = copy.deepcopy(model)
        layers, done = apply_sensitivity(copied, result, **options, example=X)
        assert layers == expected and done is not None
        found = quantizers(copied)
        assert all(found[f"{n}.{kind}"]._disabled for n in layers for kind in ("_input_quantizer", "_weight_quantizer"))
    with pytest.raises(TorchError, match=r"either"):
        apply_sensitivity(model, result)
    with pytest.raises(TorchError, match=r"top -1"):
        apply_sensitivity(model, result, top=-1)
    for budget in (float("nan"), -1.0):
        with pytest.raises(TorchError, match=r"the cost that may remain, 0 or more"):
            apply_sensitivity(model, result, budget=budget)
    with pytest.raises(TorchError, match=r"belongs to another network"):
        apply_sensitivity(residual(), result, top=1)


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
