"""Folded norms, and saved states: what they contain, restore and refuse."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import Tensor, nn

from qdqgraph.errors import ModelError, TorchError
from qdqgraph.torch import (
    Training,
    calibrate,
    export,
    finetune,
    fold_norms,
    load,
    quantize,
    quantizers,
    save,
)
from qdqgraph.torch.quantizer.quantizer import quantizer_paths
from qdqgraph.torch.training.digest import state_digest
from tests.support.torch_networks import X, linked, residual


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
