"""`link`: exact identity of quantizers in the graph, ties as groups, quantizers where the rules ask for a pair."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import Tensor, nn
from torch.nn import functional

import qdqgraph
from qdqgraph.errors import TorchError
from qdqgraph.rulekit.text import TextRule
from qdqgraph.torch import QuantAdd, calibrate, export, link, probe, quantize, quantizers, tie
from qdqgraph.torch.quantizer.quantizer import new_quantizer, qnn, quantizer_paths
from samples import networks
from tests.support.manual_ties import BACKBONE, MANUAL, PAIRS
from tests.support.torch_networks import EXPORTERS, Dense, X, dynamo_or_skip, groups, residual


@pytest.mark.parametrize(("name", "dynamo"), [("resnet18", False), ("yolov5s", False), ("resnet18", True)])
def test_a_linked_network_exports_a_file_on_which_check_is_silent(name: str, dynamo: bool, tmp_path: Path) -> None:
    dynamo_or_skip(dynamo)
    model = networks.build(name, 64)
    networks.fold_norms(model)
    images = networks.images(1, 64, 20)
    quantize(model)
    plain = quantizers(model)
    done = link(model, images, dynamo=dynamo)
    assert not done.unmapped and not done.left and not done.disabled
    assert len(done.added) == {"resnet18": 8, "yolov5s": 18}[name]
    assert set(plain) <= set(quantizer_paths(model))
    assert not calibrate(model, [networks.images(2, 64, 10)]).unseen
    written = export(model, images, tmp_path / "m.onnx", dynamo=dynamo, opset=18 if dynamo else 17)
    assert not qdqgraph.check(written, qdqgraph.rules())


class Twice(nn.Module):
    """One convolution used twice, one function called from two places and two branches that no name tells apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(12, 2, 1)
        with torch.no_grad():
            self.other = nn.Conv2d(4, 4, 1)
            self.other.weight.copy_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        a = self.conv(x)
        b = self.conv(functional.max_pool2d(a, 3, 1, 1))
        c = self.other(functional.max_pool2d(b, 3, 1, 1))
        out: Tensor = self.last(torch.cat([a, b, c], 1))
        return out


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_identity_is_exact_for_modules_used_twice_and_functional_calls(dynamo: bool) -> None:
    dynamo_or_skip(dynamo)
    model = Twice()
    quantize(model)
    seen = probe(model, X, dynamo=dynamo)
    read = {
        name: [n.op for n in seen.graph.nodes() for i in range(len(n.inputs)) if _reads(seen, n, i, name)]
        for name in seen.aliases
    }
    assert read["conv._input_quantizer"] == ["Conv", "Conv"] and read["other._input_quantizer"] == ["Conv"]
    calls = sorted((p.call.operator, p.operand) for p in seen.place_of_reader.values())
    assert calls == [("cat", 0), ("cat", 1), ("cat", 2), ("max_pool2d", 0), ("max_pool2d", 0)]
    assert all(q._probe_scale is None and q._writer is None and q.amax is None for q in quantizers(model).values())


def _reads(seen: probe, node: object, index: int, name: str) -> bool:  # type: ignore[valid-type]
    return seen.quantizer_of_reader.get((node.outputs[0].name, index)) == name  # type: ignore[attr-defined]


def chain() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(3)))
    quantize(model)
    return model


def test_ties_that_share_a_member_make_one_group_in_any_order(tmp_path: Path) -> None:
    """The pairs (A, B), (C, A): taken one after the other, A goes over to C's quantizer and leaves B behind."""
    a, b, c = (f"{i}._input_quantizer" for i in range(3))
    sequential = chain()
    for major, sub in ((a, b), (c, a)):
        holder = sequential.get_submodule(sub.split(".")[0])
        holder._input_quantizer = sequential.get_submodule(major)
    assert groups(sequential) == {frozenset({a, c})}, "what the usual scripts do"
    for order in itertools.permutations([f'[[tie]]\nquantizers = ["{x[0]}", "{y[0]}"]\n' for x, y in ((a, b), (c, a))]):
        file = tmp_path / "ties.toml"
        head = 'code = "MY101"\nname = "hand-written"\nsummary = "x"\nwhy = "y"\nsource = ["z"]\nsafety = "lossy"\n'
        file.write_text(head + "".join(order))
        model = chain()
        done = link(model, X, [TextRule(file)])
        assert groups(model) == {frozenset({a, b, c})} == {frozenset(g) for g in done.groups}
        calibrate(model, [X])
        assert len({float(q.amax) for n, q in quantizer_paths(model).items() if "input" in n}) == 1
    model = chain()
    tie(model, [(a, b), (c, a)])
    assert groups(model) == {frozenset({a, b, c})}
    with pytest.raises(TorchError, match=r"no quantizer '9._input_quantizer'"):
        tie(model, [(a, "9._input_quantizer")])


class One(nn.Module):
    """The reference network's product: one quantizer in front."""

    def __init__(self) -> None:
        super().__init__()
        self._input_quantizer = qnn.TensorQuantizer()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._input_quantizer(x) * x.mean((2, 3), keepdim=True)
        return out


class StandIn(nn.Module):
    """A network with the module paths of the fourteen pairs, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.paths = [*sorted({path for pair in PAIRS for path in pair}), f"{BACKBONE}1.0.final_conv.conv"]
        for path in self.paths:
            holder: nn.Module = self
            *above, name = path.split(".")
            for part in above:
                if part not in holder._modules:
                    holder.add_module(part, nn.Module())
                holder = holder.get_submodule(part)
            kinds: dict[str, Any] = {
                "conv": lambda: nn.Conv2d(4, 4, 1),
                "oneop": One,
                "addop": lambda: QuantAdd("both"),
            }
            holder.add_module(name, kinds[name]())

    def forward(self, x: Tensor) -> Tensor:
        for path in self.paths:
            module = self.get_submodule(path)
            x = module(x, x.roll(1, 2)) if path.endswith("addop") else module(x)
        return x


def test_the_fourteen_hand_written_pairs_and_the_rule_file_give_the_same_groups() -> None:
    def holds(path: str) -> set[str]:
        names = ("_input0_quantizer", "_input1_quantizer") if path.endswith("addop") else ("_input_quantizer",)
        return {f"{path}.{name}" for name in names}

    expected: list[set[str]] = []
    for major, sub in PAIRS:
        group = holds(major) | holds(sub)
        joined = [g for g in expected if g & group]
        expected = [g for g in expected if g not in joined] + [group.union(*joined)]
    model = StandIn()
    quantize(model)
    link(model, torch.rand(1, 4, 4, 4), [TextRule(MANUAL)])
    assert groups(model) == {frozenset(g) for g in expected} and len(expected) == 7


def test_quantizers_are_added_where_the_graph_holds_no_scale(tmp_path: Path) -> None:
    """Rules report these places to somebody who has a file alone; here data can give a scale."""
    model = Dense().eval()
    quantize(model)
    calibrate(model, [X])
    before = {f.code for f in qdqgraph.check(export(model, X, tmp_path / "a.onnx"), qdqgraph.rules())}
    assert {"QDQ207", "QDQ208"} <= before
    done = link(model, X)
    assert {p.split(".")[-2].rpartition("_")[0] for p in done.added} >= {"batch_norm", "matmul"}
    calibrate(model, [X])
    assert not qdqgraph.check(export(model, X, tmp_path / "b.onnx"), qdqgraph.rules())


class Growing(nn.ModuleDict):
    """A forward that runs every child the module has, as DenseNet's blocks do."""

    def __init__(self) -> None:
        super().__init__({"a": nn.Conv2d(4, 2, 1), "b": nn.Conv2d(6, 2, 1)})

    def forward(self, x: Tensor) -> Tensor:
        for name, layer in self.items():
            x = torch.cat([x, functional.relu(layer(x))], 1) if name != "late" else layer(x)
        self["late"] = nn.Identity()
        return x


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_quantizers_of_calls_are_out_of_sight_of_a_forward_that_runs_all_children(dynamo: bool, tmp_path: Path) -> None:
    dynamo_or_skip(dynamo)
    block = Growing()
    model = nn.Sequential(nn.Conv2d(4, 4, 1), block, nn.Conv2d(8, 2, 1))
    expected = model(X)
    quantize(model)
    done = link(model, X, dynamo=dynamo)
    assert [p for p in done.added if p.startswith("1._functional.cat_")]
    assert list(block._modules) == ["a", "b", "late", "_functional"]
    calibrate(model, [X])
    assert 0 < float((model(X) - expected).detach().abs().max()) < 0.1
    written = export(model, X, tmp_path / "m.onnx", dynamo=dynamo, opset=18 if dynamo else 17)
    assert not qdqgraph.check(written, qdqgraph.rules())
    with pytest.raises(RuntimeError):
        model(X[:, :3])
    assert set(done.added) <= set(quantizer_paths(model)), "a forward that fails takes nothing away"


def test_ties_alone_add_nothing() -> None:
    model = Dense().eval()
    quantize(model)
    done = link(model, X, add=False)
    assert not done.added and {f.code for f in done.left} >= {"QDQ207", "QDQ208"}
    assert groups(model) == {frozenset({"a._input_quantizer", "b._input_quantizer"})}


def test_a_quantizer_in_the_way_of_a_fusion_is_switched_off(tmp_path: Path) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.add, self.last = nn.Conv2d(4, 4, 1), QuantAdd("both"), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(functional.relu(self.add(self.conv(x), x)))
            return out

    model = Block()
    quantize(model)
    done = link(model, X)
    assert done.disabled == ("add._input0_quantizer",)
    assert done.groups == (("conv._input_quantizer", "add._input1_quantizer"),)
    calibrate(model, [X])
    assert not qdqgraph.check(export(model, X, tmp_path / "m.onnx"), qdqgraph.rules())


def test_a_model_is_linked_in_the_opset_that_knows_its_operators(tmp_path: Path) -> None:
    class Warped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            grid = functional.affine_grid(torch.eye(2, 3)[None].repeat(len(x), 1, 1), list(x.shape), False)
            out: Tensor = self.b(functional.grid_sample(self.a(x), grid, align_corners=False))
            return out

    model = Warped().eval()
    quantize(model)
    with pytest.raises(TorchError, match="added in version 20"):
        link(model, X)
    with pytest.raises(TorchError, match="opset 12: the TorchScript exporter writes opset 13 to 20"):
        link(model, X, opset=12)
    assert not link(model, X, opset=20).unmapped


def test_a_model_that_another_script_quantized_is_linked_as_well() -> None:
    model: Any = residual()
    for block in model:
        block.conv1 = qnn.QuantConv2d(4, 4, 3, padding=1)
        block.conv2 = qnn.QuantConv2d(4, 4, 1)
    assert not any(type(m) is type(new_quantizer(qnn.QuantConv2d.default_quant_desc_input)) for m in model.modules())
    done = link(model, X)
    assert [len(g) for g in done.groups] == [2]


def test_half_precision_models_are_probed_in_float() -> None:
    model = residual().half()
    quantize(model)
    done = link(model, X.half())
    assert len(done.added) == 1 and next(model.parameters()).dtype == torch.half


def test_models_without_quantizers_and_models_that_torch_cannot_export_are_errors() -> None:
    with pytest.raises(TorchError, match=r"no quantizers"):
        link(residual(), X)

    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = torch.fft.fft(self.conv(x).unfold(2, 2, 1)).real
            return torch.linalg.matrix_exp(out)

    model = Broken()
    quantize(model)
    hooks = [len(m._forward_pre_hooks) for m in model.modules()]
    with pytest.raises(TorchError, match=r"torch cannot export the model: .* try the dynamo exporter"):
        link(model, X)
    assert hooks == [len(m._forward_pre_hooks) for m in model.modules()]
    assert all(q._probe_scale is None for q in quantizers(model).values())
