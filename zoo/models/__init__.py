"""One paper, one file; and `adversarial`, the abstract base of models with a discriminator."""

import zoo.core  # noqa: F401 (settings that Keras reads when it is imported)
