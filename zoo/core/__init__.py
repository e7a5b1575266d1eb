"""Floor 1: the mathematics and the training step that every family shares. It knows no model."""
