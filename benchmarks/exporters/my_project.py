"""The user's module in every recipe: calibration inputs, name of the input, and the network in PyTorch.

It is copied next to `model.onnx` and `photos.npy` into the folder in which a recipe runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

images = list(np.load("photos.npy"))
input_name = onnx.load("model.onnx").graph.input[0].name


def network() -> Any:
    """The network as a PyTorch module with constant shapes and slices, so that torch.export can trace it."""
    import onnx2torch
    import onnxslim
    import torch
    from torch.utils._python_dispatch import _disable_current_modes
    from torch.utils._pytree import tree_leaves, tree_map_only

    class Known(torch.Tensor):
        """A small constant whose values are read during tracing."""

        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            leaves = tree_leaves((args, kwargs or {}))
            if all(isinstance(x, Known) for x in leaves if isinstance(x, torch.Tensor)):
                with _disable_current_modes():
                    return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
            plain = tree_map_only(Known, lambda t: t.as_subclass(torch.Tensor), (args, kwargs or {}))
            return func(*plain[0], **plain[1])

    model = onnx2torch.convert(onnxslim.slim(onnx.load("model.onnx"))).eval()
    for node in model.graph.nodes:
        resized = any(
            "Resize" in type(model.get_submodule(u.target)).__name__ for u in node.users if u.op == "call_module"
        )
        holder, _, name = str(node.target).rpartition(".")
        buffers = model.get_submodule(holder)._buffers if node.op == "get_attr" else {}
        if name in buffers and (buffers[name].dtype == torch.int64 or resized):
            object.__setattr__(model.get_submodule(holder), name, buffers.pop(name).as_subclass(Known))
    return model
