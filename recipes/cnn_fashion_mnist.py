"""A classifier on Fashion-MNIST: the preset `cnn-fashion-mnist`, whose features and classes score generated images.

A small VGG (arXiv:1409.1556, section 3.1) with batch norm: Adam, half the width and label smoothing here, where the
paper has gradient descent with momentum and weight decay on batches of 256.

Ten epochs took 7 minutes on two cores of an AMD EPYC: 92.88 % of the test images named right.

    python recipes/cnn_fashion_mnist.py
    zoo train cnn-fashion-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="cnn-fashion-mnist",
    data="fashion_mnist",
    steps=9_370,  # ten epochs
    batch_size=64,
    optimizers={"classifier": Adam(1e-3, beta_1=0.9, decay="cosine", decay_steps=9_370)},
)

if __name__ == "__main__":
    main(recipe)
