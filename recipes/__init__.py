"""One result, one file: each recipe names a preset and adds data, optimizers, batch size and steps."""
