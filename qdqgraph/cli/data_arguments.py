"""The options that give samples: --data, --preprocess, --samples."""

from __future__ import annotations

from argparse import ArgumentParser


def add_data(verb: ArgumentParser, help: str) -> None:
    """Adds the options to a command.

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
    group.add_argument("--samples", type=int, metavar="N", help="use the first N samples of the data (default: all)")
