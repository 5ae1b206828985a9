"""Which calls are seen, by whom, and what is left behind: threads, interrupts, scripted parts, parts linked alone."""

from __future__ import annotations

import copy
import importlib.util
import io
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
import torch.utils.checkpoint as checkpointing
from test_torch_quantize import X, residual
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import _get_current_function_mode_stack

from qdqgraph.errors import TorchError
from qdqgraph.torch import Config, Operator, calibrate, link, quantize, quantizers
from qdqgraph.torch.places import places


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
    with torch.device("cpu"):  # a mode of its own, which stands above what the interrupt left
        assert torch.equal(model(X), expected)
        assert len(_get_current_function_mode_stack()) == 1  # type: ignore[no-untyped-call]
    assert not _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    assert checkpointing.CheckpointFunction is original


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
    assert [path.split(".")[-2:] for path in done.placed] == [
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
    assert quantize(model, Config(operators=(Operator("add", "skip"),)), X).placed


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
