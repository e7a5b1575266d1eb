"""One paper, one file; and `adversarial`, the abstract base of models with a discriminator."""
