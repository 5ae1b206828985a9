"""`Statistics`: what data show of the tensors of a network without quantization."""
