"""The mean latent of a class."""

import numpy as np
import pytest

from studies.arithmetic import mean_latent


def test_a_mean_latent_is_that_of_the_most_confident_of_its_class() -> None:
    latents = np.array([[1.0], [2.0], [4.0], [8.0], [16.0]])
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.2, 0.8], [0.7, 0.3]])
    assert mean_latent(latents, probabilities, 0, share=0.5) == [2.5]  # of 0.9 and 0.8
    assert mean_latent(latents, probabilities, 0, share=1.0) == [5.75]
    assert mean_latent(latents, probabilities, 1, share=0.1) == [8.0]
    with pytest.raises(ValueError, match="none of 5 images is of class 2"):
        mean_latent(latents, np.pad(probabilities, ((0, 0), (0, 1))), 2, share=1.0)
