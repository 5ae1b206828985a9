"""`Backend`: a library of fake quantizers, and how its modules hold them. pytorch-quantization is the default; Model
Optimizer is loaded only when it is used."""

from __future__ import annotations

import importlib
import sys
from typing import Protocol

from torch import nn

from ...errors import TorchError
from ...extras import install_hint
from .base import Quantizer

TOOLKIT, MODELOPT = "pytorch-quantization", "modelopt"
BACKENDS = (TOOLKIT, MODELOPT)
"""The names of the backends, the default first."""
_MODULES = {TOOLKIT: "toolkit", MODELOPT: "modelopt"}
"""The module of each backend in this folder, which has a `BACKEND`."""
_LIBRARIES = {TOOLKIT: "pytorch_quantization.nn", MODELOPT: "modelopt.torch.quantization.nn"}
"""The module whose import creates quantizers of each library."""


class Backend(Protocol):
    """A library of fake quantizers.

    Attributes:
        name: as the option `--backend` spells it.
        folder: of the library's source, with a separator at the end: calls in it are not the user's.
        recurrent: the classes whose gates and states are computed inside the library, in float.
    """

    name: str
    folder: str
    recurrent: tuple[type[nn.Module], ...]

    def adopt(self, module: nn.Module) -> bool:
        """Gives a quantizer of the library the backend's class, in place; False for another module.

        Raises:
            TorchError: it rounds in a way that no pair expresses.
        """
        ...

    def new(
        self, num_bits: int = 8, axis: int | None = None, unsigned: bool = False, histogram: bool = False
    ) -> Quantizer:
        """A quantizer without amax; `histogram`: the library's own calibration collects one."""
        ...

    def is_weight(self, path: str) -> bool:
        """Whether a quantizer of this path quantizes weights, by the library's names."""
        ...

    def layer_of(self, path: str) -> str:
        """The layer that a quantizer of this path belongs to: the module or the functional call that contains it."""
        ...

    def put(self, holder: nn.Module, name: str, quantizer: Quantizer) -> None:
        """Puts a quantizer at the place of another one in the module that holds it."""
        ...


def find_backend(name: str) -> Backend:
    """A backend by its name; imports its library.

    Raises:
        TorchError: there is no such backend, or its library is not installed.
    """
    if name not in BACKENDS:
        raise TorchError(f"there is no backend {name!r}: write {' or '.join(BACKENDS)}")
    try:
        importlib.import_module(_LIBRARIES[name])
    except ImportError as error:
        extra = {TOOLKIT: "torch", MODELOPT: "modelopt"}[name]
        raise TorchError(f"backend {name!r} needs its library: {install_hint(extra)} ({error})") from error
    found: Backend = importlib.import_module(f".{_MODULES[name]}", __package__).BACKEND
    return found


def loaded_backends() -> tuple[Backend, ...]:
    """The backends whose library this process has imported: only those can have made quantizers."""
    return tuple(find_backend(name) for name in BACKENDS if _LIBRARIES[name] in sys.modules)
