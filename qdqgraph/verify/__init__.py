"""What a repair did to the numbers: outputs in ONNX Runtime, and how two models differ."""
