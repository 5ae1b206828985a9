"""Samples for a network: from arrays, files, pictures and functions."""
