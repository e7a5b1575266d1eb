"""A restricted Boltzmann machine on binarized MNIST: the preset `rbm-mnist`.

500 hidden units, persistent contrastive divergence with 100 chains and one step of Gibbs sampling a train step
(Tieleman, ICML 2008), SGD without momentum whose rate falls to 0 in a straight line.

    python recipes/rbm_mnist.py
    zoo train rbm-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import SGD
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="rbm-mnist",
    data="binarized_mnist",
    steps=200_000,
    batch_size=100,
    optimizers={"machine": SGD(0.05, decay="linear", decay_steps=200_000)},
    precision="float32",
)

if __name__ == "__main__":
    main(recipe)
