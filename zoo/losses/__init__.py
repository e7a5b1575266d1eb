"""Losses, penalties and likelihoods: pure functions, one value a row."""
