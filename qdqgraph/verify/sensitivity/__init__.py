"""What the quantization of each part of a Q/DQ graph costs at the outputs: units, their measurement, its file."""

from typing import Literal, get_args

By = Literal["group", "block", "layer"]
"""What is a unit: sites that share a scale, with the layers that read them; a weighted layer with what fuses with it; a
layer."""
BYS: tuple[str, ...] = get_args(By)
