"""Profiles of TensorRT generations: one data file per generation, each entry with its source."""
