"""Scores as functions of arrays: NumPy in float64, no model and no file."""
