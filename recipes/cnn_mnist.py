"""A classifier on MNIST: the preset `cnn-mnist`, whose features and classes score generated images.

A small VGG (arXiv:1409.1556, section 3.1) with batch norm: Adam, half the width and label smoothing here, where the
paper has gradient descent with momentum and weight decay on batches of 256.

Five epochs took 4 minutes on two cores of an AMD EPYC: 99.68 % of the test images named right.

    python recipes/cnn_mnist.py
    zoo train cnn-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="cnn-mnist",
    data="mnist",
    steps=4_685,  # five epochs
    batch_size=64,
    optimizers={"classifier": Adam(1e-3, beta_1=0.9, decay="cosine", decay_steps=4_685)},
)

if __name__ == "__main__":
    main(recipe)
