"""Floor 3: one paper, one file."""
