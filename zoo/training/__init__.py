"""A training run: recipe, devices, callbacks, checkpoints, report, sweep."""
