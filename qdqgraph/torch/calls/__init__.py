"""The calls of a running network: which operator, in which module, with which operands."""
