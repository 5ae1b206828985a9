"""A ModelProto and its file: reading and writing, constants, shapes, operator sets, validation."""
