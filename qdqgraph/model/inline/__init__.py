"""Models whose weights are inside the model file, without the weights in memory.

A large tensor of such a model is a reference in memory: where its bytes are, in a file that stays open (`references`).
`model.skeleton` reads a file so, `whole` gives the bytes of the model with its weights, for a file, a digest or a plan.
"""
