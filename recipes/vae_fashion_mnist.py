"""A VAE on Fashion-MNIST: the preset `vae-fashion-mnist`.

Kingma and Welling (arXiv:1312.6114) with dense layers of 512 and 256 units, 20 latents and a discretized logistic
(arXiv:1606.04934), so the bound is one of a probability of gray levels. Adam at 1e-3, falling to 1e-4, in batches of
128; paper: Adagrad, 100. 100,000 steps are 213 epochs, 21 minutes on one core of an AMD EPYC.

Dense layers and a scale that stays at 0.3 are for samples that look like clothes. After 30 s of training each, at that
scale, the dense networks (2,408 steps) showed seams and soles, convolutions of 32 and 64 channels (1,026 steps) clouds;
ELBOs of the last batch -2166 and -2236 nats. A learned scale gave -2125 and more blends of two garments: latents then
hold more nats (35 instead of 29), and of the convolutional run with a learned scale q(z) had come to lie 43 nats from
the prior. So the fixed scale costs bits.

The published weights are still those of the recipe before: convolutions, a learned scale, 15,000 steps.

In float32, as the other dense networks.

    python recipes/vae_fashion_mnist.py
    zoo train vae-fashion-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="vae-fashion-mnist",
    data="fashion_mnist",
    steps=100_000,
    batch_size=128,
    precision="float32",
    optimizers={"autoencoder": Adam(1e-3, beta_1=0.9, decay="cosine", decay_steps=100_000, final_learning_rate=1e-4)},
)

if __name__ == "__main__":
    main(recipe)
