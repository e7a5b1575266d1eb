"""Losses, penalties and likelihoods: pure functions, one value per row."""
