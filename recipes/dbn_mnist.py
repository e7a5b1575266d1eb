"""A deep belief network on binarized MNIST: the preset `dbn-mnist`.

784-500-2000 units, as in Salakhutdinov and Murray (ICML 2008). Both machines by persistent contrastive divergence with
100 chains, one step of Gibbs sampling a train step, SGD without momentum whose rate falls from 0.05 in a straight line;
then contrastive wake-sleep (Hinton, Osindero and Teh 2006, appendix B) at a tenth of that rate.

Steps of the three stages take 7, 13 and 16 ms of one thread of an AMD EPYC, 20 steps an execution: 34 minutes in all.
XLA gains nothing.

    python recipes/dbn_mnist.py
    zoo train dbn-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import SGD
from zoo.training.recipe import Recipe

# Optimizers begin anew with each stage. Recognition and generative weights are one machine's at first: one rate.
lower = SGD(0.05, decay="linear", decay_steps=120_000, final_learning_rate=0.0005)

recipe = Recipe(
    preset="dbn-mnist",
    data="binarized_mnist",
    steps=210_000,
    batch_size=100,
    optimizers={
        "recognition": lower,
        "generative": lower,
        "top": SGD(0.05, decay="linear", decay_steps=60_000, final_learning_rate=0.0005),
    },
    precision="float32",
)

if __name__ == "__main__":
    main(recipe)
