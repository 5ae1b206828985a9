"""PyTorch support: quantize a model, let the graph rules tie its quantizers, calibrate, analyse, fine-tune, export.

    from qdqgraph.torch import calibrate, export, link, quantize
    quantize(model)
    link(model, example)
    calibrate(model, loader, batches=32, method="entropy")
    export(model, example, "model.onnx")

`quantize_network`, `rank_layers` and `finetune_network` run all steps in one call, as `qdqgraph torch` does.

Calibrators and fake quantization come from pytorch-quantization; this package adds the graph rules and corrects faults
of the library. In qdqgraph only the command line imports it.

It needs Python 3.11: calls are identified by the qualified names and positions in compiled code, which Python 3.10 does
not have.
"""

import sys

if sys.version_info < (3, 11):
    raise ImportError("qdqgraph.torch needs Python 3.11 or newer")

from .calibration.calibrate import Calibrated, calibrate
from .calls.places import QuantAdd, QuantConcat
from .comparison.compare import Comparison, compare_export
from .exporting.export import export
from .linking.link import Linked, link, tie
from .linking.probe import Probe, probe
from .pipeline.commands import ExportedNetwork, RankedLayers, finetune_network, quantize_network, rank_layers
from .pipeline.options import Exporting, FloatUnits, Network, Preparation
from .pipeline.session import FirstInputError, Prepared
from .quantization.config import Config, Layers, Operator, Spec
from .quantization.fold import fold_norms
from .quantization.replace import Quantized, quantize
from .quantizer.provenance import Provenance
from .quantizer.quantizer import Quantizer, convert_quantizers, quantizers
from .training.finetune import Finetuned, finetune
from .training.ranking import Sensitivity
from .training.sensitivity import apply_sensitivity, sensitivity
from .training.settings import Training
from .training.state import Loaded, load, save

__all__ = [
    "Calibrated",
    "Comparison",
    "Config",
    "ExportedNetwork",
    "Exporting",
    "Finetuned",
    "FirstInputError",
    "FloatUnits",
    "Layers",
    "Linked",
    "Loaded",
    "Network",
    "Operator",
    "Preparation",
    "Prepared",
    "Probe",
    "Provenance",
    "QuantAdd",
    "QuantConcat",
    "Quantized",
    "Quantizer",
    "RankedLayers",
    "Sensitivity",
    "Spec",
    "Training",
    "apply_sensitivity",
    "calibrate",
    "compare_export",
    "convert_quantizers",
    "export",
    "finetune",
    "finetune_network",
    "fold_norms",
    "link",
    "load",
    "probe",
    "quantize",
    "quantize_network",
    "quantizers",
    "rank_layers",
    "save",
    "sensitivity",
    "tie",
]
