"""The whole way from a float network to its ONNX file, its ranking or its trained state, as one call each."""
