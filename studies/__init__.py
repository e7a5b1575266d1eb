"""One question, one CSV, one figure: what the theory pages rest on, and the applications' experiments."""
