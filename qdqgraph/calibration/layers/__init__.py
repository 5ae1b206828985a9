"""The error of each layer of a Q/DQ graph against its float network, and what corrects it."""
