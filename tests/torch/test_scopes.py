"""Which calls are seen, by whom, and what is left behind: threads, interrupts, scripted parts, parts linked alone."""

from __future__ import annotations

import copy
import importlib.util
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
import torch.utils.checkpoint as checkpointing
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import _get_current_function_mode_stack

from qdqgraph.errors import TorchError
from qdqgraph.torch import (
    Config,
    Operator,
    Training,
    calibrate,
    export,
    finetune,
    fold_norms,
    link,
    probe,
    quantize,
    quantizers,
    sensitivity,
)
from qdqgraph.torch.calls.places import places
from tests.support.torch_networks import X, residual


def quantized(reentrant: bool | None = None) -> nn.Module:
    model = residual(reentrant)
    quantize(model, Config(operators=(Operator("add"),)), X)
    calibrate(model, [X])
    return model


def test_a_model_runs_in_several_threads_at_a_time() -> None:
    """As nn.DataParallel runs it; and torch's checkpoints are what they were afterwards."""
    model = quantized()
    images = [torch.rand(2, 4, 8, 8) for _ in range(4)]
    expected = [model(x) for x in images]
    wrong: list[object] = []

    def run(index: int) -> None:
        try:
            wrong.extend(index for _ in range(15) if not torch.equal(model(images[index]), expected[index]))
        except Exception as error:  # noqa: BLE001 - shown below
            wrong.append(error)

    original = checkpointing.CheckpointFunction
    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and checkpointing.CheckpointFunction is original


def test_an_interrupt_leaves_nothing_that_the_next_run_would_stumble_over() -> None:
    model: Any = quantized()
    expected = model(X)

    def interrupt(module: nn.Module, args: Any) -> None:
        raise KeyboardInterrupt

    original = checkpointing.CheckpointFunction
    handle = model[1].conv1.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model(X)
    handle.remove()
    assert len(places(model)) == 4 and set(places(model)) <= set(quantizers(model))
    with torch.device("cpu"):  # a mode of its own, which is above what the interrupt left
        assert torch.equal(model(X), expected)
        assert len(_get_current_function_mode_stack()) == 1  # type: ignore[no-untyped-call]
    assert not _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    assert checkpointing.CheckpointFunction is original


def stopped(model: Any, run: Callable[[], Any], after: int = 0) -> None:
    """Ctrl-C inside a forward, once the block has run so often."""
    left = [None] * after

    def interrupt(module: nn.Module, args: Any) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()

    handle = model[1].conv1.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run()
    handle.remove()


def test_a_model_is_whole_after_an_interrupt_before_anything_of_ours_runs() -> None:
    """Its state, a copy, a file and a walk through its modules, from this thread or another."""
    model = quantized()
    expected, names, paths = model(X), set(model.state_dict()), [n for n, _ in model.named_modules()]
    assert any("_functional" in name for name in names)
    stopped(model, lambda: model(X))
    assert [n for n, _ in model.named_modules()] == paths
    assert set(model.state_dict()) == names
    model.load_state_dict(model.state_dict())
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert set(other.state_dict()) == names and torch.equal(other(X), expected)
    assert torch.equal(model(X), expected)
    assert not _get_current_function_mode_stack()  # type: ignore[no-untyped-call]


def test_another_thread_sees_all_children_while_a_forward_runs() -> None:
    model: Any = quantized()
    names = set(model.state_dict())
    seen: list[set[str]] = []
    thread = threading.Thread(target=lambda: seen.append(set(model.state_dict())))

    def look(module: nn.Module, args: Any) -> None:
        seen.append({n for n, _ in model[1].named_modules() if "_functional" in n})
        thread.start()
        thread.join()

    handle = model[1].conv1.register_forward_pre_hook(look)
    model(X)
    handle.remove()
    assert seen == [set(), names]


def test_functions_that_run_a_model_leave_nothing_open_when_they_are_interrupted(tmp_path: Path) -> None:
    model = quantized()
    expected, names, original = model.eval()(X), set(model.state_dict()), checkpointing.CheckpointFunction

    def score(model: nn.Module) -> float:
        return float(model(X).mean())

    def score_on_a_device(model: nn.Module) -> float:
        with torch.device("cpu"):  # a mode of its own
            return score(model)

    functions: dict[str, Callable[[], Any]] = {
        "calibrate": lambda: calibrate(model, [X]),
        "sensitivity": lambda: sensitivity(model, score),
        "sensitivity on a device": lambda: sensitivity(model, score_on_a_device),
        "export": lambda: export(model, X, tmp_path / "model.onnx"),
        "probe": lambda: probe(model, X),
        "fold": lambda: fold_norms(model, X),
        "finetune": lambda: finetune(model, residual(), [X], training=Training(epochs=1)),
    }
    if importlib.util.find_spec("onnxscript") is not None:
        functions["dynamo"] = lambda: export(model, X, tmp_path / "model.onnx", dynamo=True)
    for name, function in functions.items():
        stopped(model, function)
        assert not _get_current_function_mode_stack(), name  # type: ignore[no-untyped-call]
        assert checkpointing.CheckpointFunction is original and set(model.state_dict()) == names, name
        assert torch.equal(model(X), expected) and not any(m.training for m in model.modules()), name
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("after", [0, 2, 3, 4])
def test_an_interrupted_training_keeps_the_best_weights_and_the_modes(after: int) -> None:
    """Interrupted in the first score, in the first epoch, in its score, in the second epoch: Ctrl-C comes through."""
    model, teacher = quantized().eval(), residual().train()
    model[0].train()  # type: ignore[index]
    modes = [m.training for m in (*model.modules(), *teacher.modules())]
    states = [copy.deepcopy(model.state_dict())]

    def better(model: nn.Module) -> float:
        model(X)
        states.append(copy.deepcopy(model.state_dict()))
        return float(len(states))

    training = Training(epochs=2, rate=1e-2)
    stopped(model, lambda: finetune(model, teacher, [X, X], training=training, evaluate=better), after)
    assert [m.training for m in (*model.modules(), *teacher.modules())] == modes
    assert len(states) == (1 if after == 0 else 3 if after == 4 else 2)
    kept, found = states[-1], model.state_dict()
    assert kept.keys() == found.keys() and all(torch.equal(v, found[k]) for k, v in kept.items())


def test_an_interrupt_that_the_model_itself_catches_closes_the_branch_alone() -> None:
    class Stopping(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise SystemExit

    class Catching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stopping, self.conv = Stopping(), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            try:
                self.stopping(x)
            except SystemExit:
                x = x + 1
            out: Tensor = self.conv(x)
            return out

    model = Catching()
    quantize(model, Config(operators=(Operator("add"),)), X)
    assert [p.module for p in places(model).values()] == [""]
    assert not calibrate(model, [X]).unseen


class Named(nn.Module):
    """Operands by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.max_pool2d(input=self.conv(x), kernel_size=3, stride=1, padding=1)
        y = torch.add(y, other=x)
        out: Tensor = self.last(torch.cat(tensors=[torch.mul(input=y, other=x), x], dim=1))
        return out


def test_operands_may_be_given_by_keyword() -> None:
    model = Named()
    done = quantize(model, Config(operators=tuple(map(Operator, ("max_pool2d", "add", "mul", "cat")))), X)
    assert [path.split(".")[-2:] for path in done.inserted] == [
        ["max_pool2d_0", "_input0_quantizer"],
        *(["add_0", f"_input{i}_quantizer"] for i in (0, 1)),
        *(["mul_0", f"_input{i}_quantizer"] for i in (0, 1)),
        *(["cat_0", f"_input{i}_quantizer"] for i in (0, 1)),
    ]
    assert not calibrate(model, [X]).unseen


def test_calls_are_seen_wherever_the_users_files_lie(tmp_path: Path) -> None:
    """A folder may be called as the library is, or begin as torch's does."""
    folder = tmp_path / "pytorch_quantization-samples"
    folder.mkdir()
    (folder / "functional.py").write_text(
        "from torch import nn\n\n\nclass Block(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.conv = nn.Conv2d(4, 4, 1)\n\n"
        "    def forward(self, x):\n        return self.conv(x) + x\n"
    )
    spec = importlib.util.spec_from_file_location("block", folder / "functional.py")
    assert spec is not None and spec.loader is not None
    block = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(block)
    model = nn.Sequential(block.Block())
    assert quantize(model, Config(operators=(Operator("add", "skip"),)), X).inserted


def test_scripted_parts_are_left_in_float_and_named() -> None:
    with pytest.warns(DeprecationWarning):
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()))
    model = nn.Sequential(nn.Conv2d(4, 4, 1), scripted, residual())
    done = quantize(model)
    assert done.left == ("1.0",) and "0" in done.replaced
    with pytest.raises(TorchError, match=r"torch cannot export the model.*scripted"):
        link(model, X)
    assert not calibrate(model, [X]).unseen


def test_a_part_that_was_linked_alone_stays_linked() -> None:
    model = nn.Sequential(residual(), nn.Conv2d(4, 4, 1))
    quantize(model)
    assert link(model[0], X).added
    calibrate(model, [X])
    expected = model(X)
    link(model, X, add=False)
    assert torch.equal(model(X), expected)
    assert link(model[0], X).added == ()
    assert torch.equal(model(X), expected)


def test_a_model_and_its_places_survive_a_copy_and_a_file() -> None:
    model = Named().eval()
    quantize(model)
    link(model, X)
    calibrate(model, [X])
    expected = model(X)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert torch.equal(other(X), expected)
        for quantizer in quantizers(other).values():
            quantizer.disable()
        assert not torch.equal(other(X), expected) and torch.equal(model(X), expected)


@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
def test_a_compiled_model_is_refused_where_calls_hold_quantizers() -> None:
    """The compiler moves calls away from the places by which they are known; without such calls it is welcome."""
    with pytest.raises(TorchError, match=r"torch\.compile hides"):
        torch.compile(quantized(), backend="eager")(X)
    model = residual()
    quantize(model)
    calibrate(model, [X])
    torch.testing.assert_close(torch.compile(model, backend="eager")(X), model(X))
