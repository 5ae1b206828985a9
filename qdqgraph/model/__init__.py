"""ModelProto and its file: reading, writing, constants, shapes, opset conversion, validation."""
