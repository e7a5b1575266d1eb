"""Floor 4: how far generated images are from real ones."""
