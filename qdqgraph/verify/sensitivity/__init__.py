"""What the quantization of each part of a Q/DQ graph costs at the outputs: units, their measurement, its file."""
