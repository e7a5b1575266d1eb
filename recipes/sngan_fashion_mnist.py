"""SN-GAN on Fashion-MNIST: the preset `sngan-fashion-mnist`.

Miyato et al. (arXiv:1802.05957, appendix B.4): residual networks, the discriminator's kernels at spectral norm 1,
hinge loss. Adam at 2e-4 with the decays 0 and 0.9 and batches of 64, as published. Images are padded from 28x28 to
32x32.

Paper: 256 channels in G, 128 in D, and five updates of D for each of G. 32 channels and one update here: 12,000 steps
took 57 minutes on one shared core of an AMD EPYC, and FCD fell to 0.58, at the last of twelve checkpoints the lowest.
With five updates 4,000 steps, which give D nearly twice as many images, ended at 2.1.

    python recipes/sngan_fashion_mnist.py
    zoo train sngan-fashion-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="sngan-fashion-mnist",
    data="fashion_mnist",
    fit="pad",
    steps=12_000,
    score_every=1_000,
    export="best",
    batch_size=64,
    optimizers={
        "generator": Adam(2e-4, beta_1=0.0, beta_2=0.9),
        "discriminator": Adam(2e-4, beta_1=0.0, beta_2=0.9),
    },
)

if __name__ == "__main__":
    main(recipe)
