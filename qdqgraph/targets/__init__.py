"""What each generation of TensorRT accepts: one data file a generation, each entry with its source."""
