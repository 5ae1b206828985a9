"""Weights whose float values are known: their scales, and their integers."""
