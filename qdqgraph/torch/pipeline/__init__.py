"""The complete pipeline from a float network to its ONNX file, its ranking or its trained state, each in one call."""
