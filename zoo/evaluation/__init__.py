"""Floor 4: how far generated pictures are from real ones."""
