"""The options that give samples: --data, --preprocess, --samples."""

from __future__ import annotations

from argparse import ArgumentParser, _ArgumentGroup

from .numbers import count, percent


def add_data(verb: ArgumentParser, help: str) -> _ArgumentGroup:
    """Adds the options to a command; returns their group.

    Args:
        verb: the command.
        help: what the samples are for.
    """
    group = verb.add_argument_group("samples")
    group.add_argument(
        "--data",
        metavar="DATA",
        help=f"{help}: .npz or .npy, a folder of these or of pictures, module:function or file.py:function",
    )
    group.add_argument(
        "--preprocess",
        metavar="SPEC",
        help="how pictures become inputs: imagenet, imagenet-tf, yolo, unit, raw, or entries such as "
        "size=224,scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225,order=bgr,layout=nhwc,fit=crop",
    )
    group.add_argument("--samples", type=count, metavar="N", help="use the first N samples of the data (default: all)")
    return group


def add_calibration(verb: ArgumentParser) -> None:
    """Adds the options that say how scales are measured on the samples."""
    group = verb.add_argument_group("scales from data")
    group.add_argument(
        "--calibrate",
        metavar="METHOD",
        default="auto",
        help="with --data: max, percentile, mse, entropy; auto (default): least error at the layers; none: keep the "
        "scales of the file",
    )
    group.add_argument(
        "--percentile", type=percent, default=99.99, metavar="P", help="for --calibrate percentile (default 99.99)"
    )
    add_memory(group)
    group.add_argument(
        "--statistics", metavar="FILE", help="keep what was measured in FILE (.npz); read it if it exists"
    )
    group.add_argument(
        "--ranges",
        dest="table",
        metavar="FILE",
        help="scales from a file, alone or before those of --data: a TensorRT calibration cache, AIMET encodings, ONNX "
        "Runtime's calibration table, or a file of --statistics",
    )


def add_memory(verb: ArgumentParser | _ArgumentGroup) -> None:
    """Adds the option that limits the memory."""
    help = "limit for the memory of the process while it measures (default 2GiB)"
    verb.add_argument("--memory", default="2GiB", metavar="SIZE", help=help)
