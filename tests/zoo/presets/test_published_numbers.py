"""Every preset and its recipe beside the numbers that were published for it: one table, deviations with their reason.

A row is (what, published, where[, ours, why]). `what` is an argument of the model, "batch_size" or "optimizer" of the
recipe, a field of every player's optimizer after "optimizer.", or a name in a module of `zoo.networks`. None stands for
nothing: none published, or none here.
"""

import importlib
import inspect
from collections import Counter
from typing import Any

import pytest

from zoo.presets.table import PRESETS, resolve_class

GAN, DCGAN, WGAN, WGAN_GP = (f"arXiv:{number}" for number in ("1406.2661", "1511.06434", "1701.07875", "1704.00028"))
ADAM, VAE, IWAE, VGG = (f"arXiv:{number}" for number in ("1412.6980", "1312.6114", "1509.00519", "1409.1556"))
PIXELCNN, GATED, VQVAE = "arXiv:1601.06759", "arXiv:1606.05328", "arXiv:1711.00937"
CYCLEGAN, PIX2PIX, SRGAN = "arXiv:1703.10593", "arXiv:1611.07004", "arXiv:1609.04802"
PROGAN, STYLEGAN, STYLEGAN2 = "arXiv:1710.10196", "arXiv:1812.04948", "arXiv:1912.04958"
UNSAID = "no number published"
ANNEALING = "Salakhutdinov and Murray, ICML 2008, as quoted"
EMA = (
    "ema_decay",
    None,
    "none of these papers",
    0.999,
    "samples get steadier; the decay is ProGAN's, arXiv:1710.10196",
)
SHARED = (
    *("schedule", "alternating", f"{GAN}, Algorithm 1: fresh latents for G", "shared"),
    "saves one of the generator's forward passes",
)
NON_SATURATING = ("loss", "non_saturating", f"{GAN}, section 3")
ONE_STEP = ("discriminator_steps", 1, f"{GAN}, Algorithm 1: k = 1")
FEWER_STEPS = "G learns more in an hour on a CPU when it is updated as often as D"
SMALLER = "trains within hours on a CPU"
ADAM_HERE = "one optimizer for all autoencoders, without a schedule of rates"
ADAM_OF_GANS = (
    ("optimizer", "Adam", f"{DCGAN}, section 4"),
    ("optimizer.learning_rate", 2e-4, f"{DCGAN}, section 4"),
    ("optimizer.beta_1", 0.5, f"{DCGAN}, section 4"),
    ("optimizer.beta_2", 0.999, f"{ADAM}, Algorithm 1"),
)
SHORTER = "the run is shorter"
FEW_IMAGES = "1,853 images are few; arXiv:2006.10738, section 4"
STYLEGANS = (
    ("latent_dim", 512, f"{STYLEGAN}, section 2", 128, SMALLER),
    ("style_dim", 512, f"{STYLEGAN}, section 2", 128, SMALLER),
    ("channel_max", 512, "the authors' code, networks_stylegan.py", 128, SMALLER),
    ("mapping_layers", 8, f"{STYLEGAN}, section 2", 2, "at a hundredth of the rate, deep layers learn little in hours"),
    ("style.RATE", 0.01, f"{STYLEGAN}, appendix C"),
    ("style.LEAK", 0.2, f"{STYLEGAN}, appendix C"),
    ("mixing", 0.9, f"{STYLEGAN}, section 3.1: 90 %"),
    ("mean_decay", 0.995, "the authors' code, networks_stylegan.py"),
    ("group_size", 4, "the authors' code, networks_stylegan.py"),
    ("ema_decay", 0.5 ** (32 / 10_000), "the authors' code: half after 10,000 images", 0.999, "half after 22,000"),
    ("batch_size", 32, "the authors' code"),
    ("optimizer", "Adam", f"{STYLEGAN}, appendix C"),
    ("optimizer.beta_1", 0.0, f"{STYLEGAN}, appendix C"),
    ("optimizer.beta_2", 0.99, f"{STYLEGAN}, appendix C"),
    ("optimizer.epsilon", 1e-8, f"{STYLEGAN}, appendix C", 1e-7, "Keras' own"),
)
EM = (
    ("optimizer", None, UNSAID, "SGD", "EM is descent at a rate of 1 here"),
    ("optimizer.learning_rate", None, UNSAID, 1.0, "an M-step"),
)
BETAS_0_AND_09 = (("optimizer.beta_1", 0.0), ("optimizer.beta_2", 0.9))
CONVOLUTIONS = (
    ("convolutional.LEAK", 0.2, f"{DCGAN}, section 4"),
    ("convolutional.KERNEL", 5, "DCGAN's code", 4, "a multiple of the stride covers every pixel equally"),
    ("convolutional.BASE", 4, f"{DCGAN}, figure 1"),
    ("convolutional.WIDEST", 8, f"{DCGAN}, figure 1: 1,024 channels of 128"),
)
DCGANS = (
    *CONVOLUTIONS,
    *ADAM_OF_GANS,
    *(SHARED, ONE_STEP, EMA),
    ("latent_dim", 100, f"{DCGAN}, figure 1"),
    ("prior", "uniform", f"{DCGAN}, figure 1", "normal", "the same latents as the other GANs'"),
    ("batch_size", 128, f"{DCGAN}, section 4", 64, SMALLER),
)
DCGAN_WIDTH = ("convolutional.generator.width", 128, f"{DCGAN}, figure 1", 64, SMALLER)

ENLARGERS = (
    ("scale", 4, f"{SRGAN}, section 3.1"),
    ("width", 64, f"{SRGAN}, figure 4"),
    ("blocks", 16, f"{SRGAN}, section 3.2"),
    ("srresnet.END_KERNEL", 9, f"{SRGAN}, figure 4"),
    ("srresnet.SLOPE", 0.25, "arXiv:1502.01852, section 2.1"),
    ("batch_size", 16, f"{SRGAN}, section 3.2"),
    ("optimizer", "Adam", f"{SRGAN}, section 3.2"),
    ("optimizer.beta_1", 0.9, f"{SRGAN}, section 3.2"),
    ("optimizer.beta_2", 0.999, f"{ADAM}, Algorithm 1"),
)

# The optimizers of what learns one loss alone.
SURE_RATE = ("optimizer.learning_rate", 1e-3, f"{ADAM}, Algorithm 1")
SURE_DECAY = ("optimizer.beta_2", 0.999, f"{ADAM}, Algorithm 1")
SHORT_MEMORY = ("optimizer.beta_1", 0.9, f"{ADAM}, Algorithm 1", 0.5, "the default of the optimizers here")
AUTOENCODERS = (SURE_RATE, SURE_DECAY, SHORT_MEMORY, ("batch_size", None, UNSAID, 128, SMALLER))
IWAES = (
    ("latent_dim", 50, f"{IWAE}, section 5"),
    ("hidden", (200, 200), f"{IWAE}, section 5"),
    ("activation", "tanh", f"{IWAE}, section 5"),
    ("likelihood", "bernoulli", f"{IWAE}, section 5"),
    ("beta", 1.0, f"{VAE}, eq. 3"),
    ("free_bits", 0.0, f"{VAE}, eq. 3"),
    ("initial_brightness", 0.13, "IWAE's code: the output's bias begins at the images' mean"),
    ("optimizer", "Adam", f"{IWAE}, section 5"),
    ("optimizer.beta_1", 0.9, f"{IWAE}, section 5"),
    ("optimizer.beta_2", 0.999, f"{IWAE}, section 5"),
    ("optimizer.epsilon", 1e-4, f"{IWAE}, section 5", 1e-7, "Keras' own"),
    ("optimizer.final_learning_rate", 1e-4, f"{IWAE}, section 5: 1e-3 times 10^(-7/7)"),
    (
        "optimizer.decay",
        "eight stages",
        f"{IWAE}, section 5",
        "cosine",
        "the run is shorter, and so the stages would be",
    ),
    ("batch_size", 20, f"{IWAE}, section 5", 128, SMALLER),
)
CLASSIFIERS = (
    ("width", 64, f"{VGG}, table 1", 32, SMALLER),
    ("dropout", 0.5, f"{VGG}, section 3.1", 0.3, "of the features alone: there are no hidden dense layers"),
    ("shift", None, UNSAID, 0.1, "in place of random crops of larger images"),
    ("label_smoothing", 0.1, "arXiv:1512.00567, section 7"),
    EMA,
    ("batch_size", 256, f"{VGG}, section 3.1", 64, SMALLER),
    ("optimizer", "SGD with momentum", f"{VGG}, section 3.1", "Adam", "needs no rate of its own for every size"),
    SURE_RATE,
    SURE_DECAY,
    ("optimizer.beta_1", 0.9, f"{ADAM}, Algorithm 1"),
    ("optimizer.decay", "by 10 where validation stalls", f"{VGG}, section 3.1", "cosine", "needs no validation set"),
    ("optimizer.weight_decay", 5e-4, f"{VGG}, section 3.1", None, "batch norm and label smoothing instead"),
)
MIRRORED = ("flip", True, f"{VGG}, section 3.1: random horizontal flips")

TABLE: dict[str, tuple[tuple[Any, ...], ...]] = {
    "gan-mnist": (
        ("architecture", "mlp", f"{GAN}, section 5"),
        ("mlp.generator.width", 1200, "the authors' code, mnist.yaml"),
        ("mlp.discriminator.width", 240, "the authors' code, mnist.yaml"),
        ("mlp.PIECES", 5, "the authors' code, mnist.yaml"),
        ("mlp.INPUT_DROPOUT", 0.2, "the authors' code, mnist.yaml"),
        ("mlp.HIDDEN_DROPOUT", 0.5, "the authors' code, mnist.yaml"),
        ("mlp.GENERATOR_RANGE", 0.05, "the authors' code, mnist.yaml"),
        ("mlp.DISCRIMINATOR_RANGE", 0.005, "the authors' code, mnist.yaml"),
        ("latent_dim", 100, "the authors' code, mnist.yaml"),
        ("prior", "uniform in +-sqrt(3)", "the authors' code", "uniform", "in +-1: another scale of the same latents"),
        *(NON_SATURATING, ONE_STEP, SHARED, EMA),
        ("batch_size", 100, "the authors' code, mnist.yaml", 64, "as the other GANs"),
        ("optimizer", "SGD with momentum", f"{GAN}, Algorithm 1", "Adam", "needs no schedule of rates"),
        ("optimizer.learning_rate", 0.1, "the authors' code, mnist.yaml", 2e-4, "DCGAN's Adam"),
        *ADAM_OF_GANS[2:],
    ),
    "dcgan-fashion-mnist": (
        *DCGANS,
        NON_SATURATING,
        DCGAN_WIDTH,
        ("width", None, "the networks' own"),
        ("augment", "", DCGAN),
    ),
    "dcgan-images": (
        *DCGANS,
        NON_SATURATING,
        DCGAN_WIDTH,
        ("width", None, "the networks' own"),
        ("augment", "", DCGAN),
    ),
    "dcgan-sign-digits": (
        *(*DCGANS, NON_SATURATING),
        ("width", 128, f"{DCGAN}, figure 1", 32, SMALLER),
        ("augment", "color,translation,cutout", "arXiv:2006.10738, section 4"),
    ),
    "lsgan-fashion-mnist": (
        *(*DCGANS, DCGAN_WIDTH),
        ("loss", "least_squares", "arXiv:1611.04076, eq. 2"),
        ("codes", (0.0, 1.0, 1.0), "arXiv:1611.04076, eq. 9"),
    ),
    "sngan-fashion-mnist": (
        ("architecture", "resnet", "arXiv:1802.05957, table 4"),
        ("residual.generator.width", 256, "arXiv:1802.05957, table 4"),
        ("residual.discriminator.width", 128, "arXiv:1802.05957, table 4"),
        ("width", None, "arXiv:1802.05957, table 4: 256 and 128", 32, SMALLER),
        ("latent_dim", 128, "arXiv:1802.05957, table 4"),
        ("prior", "normal", "arXiv:1802.05957, table 4"),
        ("loss", "hinge", "arXiv:1802.05957, eqs. 16 and 17"),
        ("schedule", "alternating", "the authors' code, updater.py"),
        ("discriminator_steps", 5, "the authors' code, sn_cifar10_unconditional.yml", 1, FEWER_STEPS),
        EMA,
        ("batch_size", 64, "the authors' code, sn_cifar10_unconditional.yml"),
        ("optimizer", "Adam", "the authors' code, sn_cifar10_unconditional.yml"),
        ("optimizer.learning_rate", 2e-4, "the authors' code, sn_cifar10_unconditional.yml"),
        *((*each, "the authors' code, sn_cifar10_unconditional.yml") for each in BETAS_0_AND_09),
        ("optimizer.decay", "linear", "the authors' code, to 0", "none", "the EMA of G does what a falling rate does"),
    ),
    "cgan-fashion-mnist": (
        *CONVOLUTIONS,
        ("width", None, "none of DCGAN's networks", 64, SMALLER),
        ("latent_dim", 128, "the authors' code, sn_cifar10.yml", 100, "that of DCGAN, whose networks these are"),
        ("loss", "hinge", "the authors' code, sn_cifar10.yml"),
        ("discriminator_condition", "projection", "arXiv:1802.05637, eq. 3"),
        ("generator_condition", "batch_norm", "the authors' code, resnet_32.py"),
        ("discriminator_norm", "spectral", "the authors' code, snresnet_32.py"),
        ("discriminator_steps", 5, "the authors' code, sn_cifar10.yml", 1, FEWER_STEPS),
        EMA,
        ("batch_size", 64, "the authors' code, sn_cifar10.yml"),
        ("optimizer", "Adam", "the authors' code, sn_cifar10.yml"),
        ("optimizer.learning_rate", 2e-4, "the authors' code, sn_cifar10.yml"),
        *((*each, "the authors' code, sn_cifar10.yml") for each in BETAS_0_AND_09),
        ("optimizer.decay", "linear", "the authors' code, to 0", "none", "the EMA of G does what a falling rate does"),
    ),
    "wgan-fashion-mnist": (
        *CONVOLUTIONS,
        ("width", 64, "the authors' code, main.py"),
        ("latent_dim", 100, "the authors' code, main.py"),
        ("prior", "normal", "the authors' code, main.py"),
        ("constraint", "weight_clipping", f"{WGAN}, Algorithm 1"),
        ("clip", 0.01, f"{WGAN}, Algorithm 1: c"),
        ("critic_steps", 5, f"{WGAN}, Algorithm 1: n_critic"),
        EMA,
        ("batch_size", 64, f"{WGAN}, Algorithm 1: m"),
        ("optimizer", "RMSprop", f"{WGAN}, Algorithm 1"),
        ("optimizer.learning_rate", 5e-5, f"{WGAN}, Algorithm 1: alpha"),
        ("optimizer.rho", 0.99, "the authors' code: PyTorch's own"),
        (
            "optimizer.epsilon",
            1e-8,
            "the authors' code: PyTorch's own",
            1e-16,
            "theirs is outside the root, Keras' under it",
        ),
        ("optimizer.momentum", 0.0, "the authors' code: PyTorch's own"),
    ),
    "wgan-gp-fashion-mnist": (
        *CONVOLUTIONS,
        ("width", 64, "the authors' code, gan_64x64.py"),
        ("latent_dim", 128, "the authors' code, gan_64x64.py", 100, "that of DCGAN, whose networks these are"),
        ("prior", "normal", "the authors' code, gan_64x64.py"),
        ("constraint", "gradient_penalty", f"{WGAN_GP}, eq. 3"),
        ("penalty_weight", 10.0, f"{WGAN_GP}, Algorithm 1: lambda"),
        ("critic_steps", 5, f"{WGAN_GP}, Algorithm 1: n_critic"),
        EMA,
        ("batch_size", 64, "the authors' code, gan_64x64.py"),
        ("optimizer", "Adam", f"{WGAN_GP}, Algorithm 1"),
        ("optimizer.learning_rate", 1e-4, f"{WGAN_GP}, Algorithm 1: alpha"),
        *((*each, f"{WGAN_GP}, Algorithm 1") for each in BETAS_0_AND_09),
    ),
    "progan-sign-digits": (
        ("latent_dim", 512, f"{PROGAN}, table 2", 128, SMALLER),
        ("channel_base", 8192, "the authors' code, networks.py", 512, SMALLER),
        ("channel_max", 512, f"{PROGAN}, table 2", 128, SMALLER),
        ("start_size", 4, f"{PROGAN}, table 2"),
        ("progressive.LEAK", 0.2, f"{PROGAN}, appendix A.1"),
        ("fade_steps", 50_000, f"{PROGAN}, appendix A.1: 800,000 images, 16 a step", 1_000, SMALLER),
        ("stable_steps", 50_000, f"{PROGAN}, appendix A.1: 800,000 images, 16 a step", 1_000, SMALLER),
        ("penalty_weight", 10.0, f"{WGAN_GP}, Algorithm 1: lambda"),
        ("drift", 0.001, f"{PROGAN}, appendix A.1: epsilon_drift"),
        ("critic_steps", 1, f"{PROGAN}, appendix A.1: n_critic"),
        ("group_size", 4, "the authors' code, networks.py; in the paper the whole batch"),
        ("ema_decay", 0.999, f"{PROGAN}, appendix A.1"),
        ("augment", "", PROGAN, "color,translation,cutout", FEW_IMAGES),
        ("batch_size", 16, f"{PROGAN}, appendix A.1"),
        ("optimizer", "Adam", f"{PROGAN}, appendix A.1"),
        ("optimizer.learning_rate", 1e-3, f"{PROGAN}, appendix A.1"),
        ("optimizer.beta_1", 0.0, f"{PROGAN}, appendix A.1"),
        ("optimizer.beta_2", 0.99, f"{PROGAN}, appendix A.1"),
        ("optimizer.epsilon", 1e-8, f"{PROGAN}, appendix A.1", 1e-7, "Keras' own"),
    ),
    "stylegan-sign-digits": (
        *STYLEGANS,
        ("channel_base", 8192, "the authors' code, networks_stylegan.py", 512, SMALLER),
        ("fade_steps", None, "the authors' code: 600,000 images, in batches of 32 to 512", 2_000, SMALLER),
        ("stable_steps", None, "the authors' code: 600,000 images, in batches of 32 to 512", 2_000, SMALLER),
        ("augment", "", STYLEGAN, "color,translation,cutout", FEW_IMAGES),
        ("r1_weight", 10.0, f"{STYLEGAN}, appendix C: gamma", 2.0, "of 64x64 pixels"),
        ("r1_interval", 1, STYLEGAN, 16, f"{STYLEGAN2}, appendix B"),
        ("path_length_weight", None, "none in the paper", 0.0, "0 leaves it out"),
        ("optimizer.learning_rate", 1e-3, f"{STYLEGAN}, appendix C: below 128x128"),
    ),
    "stylegan2-sign-digits": (
        *STYLEGANS,
        ("architecture", "stylegan2", f"{STYLEGAN2}, section 2"),
        ("channel_base", 16384, "the authors' code, networks_stylegan2.py: configuration F", 512, SMALLER),
        ("fade_steps", None, f"{STYLEGAN2}, section 4.2: does not grow"),
        ("augment", "", STYLEGAN2, "translation,cutout", FEW_IMAGES),
        ("r1_weight", 10.0, f"{STYLEGAN2}, appendix B: gamma of FFHQ", 1.0, "of 64x64 pixels"),
        ("r1_interval", 16, f"{STYLEGAN2}, appendix B"),
        ("path_length_weight", 2.0, "the authors' code, loss.py"),
        ("path_length_interval", 4, "the authors' code, training_loop.py", 8, "a third less time a step"),
        ("optimizer.learning_rate", 2e-3, "the authors' code, run_training.py"),
    ),
    "vq-vae-fashion-mnist": (
        ("codes", 512, f"{VQVAE}, section 4.2: of ImageNet", 256, "images are small and gray"),
        ("code_dim", 64, "the authors' code"),
        ("hidden", (256, 256), f"{VQVAE}, section 4.1", (32, 64), SMALLER),
        ("blocks", 2, f"{VQVAE}, section 4.1"),
        ("block_width", 256, f"{VQVAE}, section 4.1; 32 in the authors' code", 32, SMALLER),
        ("commitment_weight", 0.25, f"{VQVAE}, section 3.2"),
        ("codebook_decay", 0.99, f"{VQVAE}, appendix A.1"),
        (
            "revive_below",
            0.0,
            f"{VQVAE}: none are",
            0.1,
            "most codes are never the nearest of those that a run begins with",
        ),
        ("prior_begins", 250_000, f"{VQVAE}, section 4.1", 8_000, SHORTER),
        ("prior_filters", None, f"{VQVAE}: {UNSAID}", 64, SMALLER),
        ("prior_blocks", None, f"{VQVAE}: {UNSAID}", 6, SMALLER),
        ("vq_vae.BLOCK_KERNEL", 3, f"{VQVAE}, section 4.1"),
        ("batch_size", 128, f"{VQVAE}, section 4.1", 64, "a prior learns by updates, and its step costs the most"),
        ("optimizer", "Adam", f"{VQVAE}, section 4.1"),
        ("optimizer.learning_rate", 2e-4, f"{VQVAE}, section 4.1", 1e-3, SHORTER),
        ("optimizer.beta_1", 0.9, f"{ADAM}, Algorithm 1"),
        ("optimizer.beta_2", 0.999, f"{ADAM}, Algorithm 1"),
    ),
    "pixelcnn-mnist": (
        ("filters", None, f"{GATED}: of MNIST {UNSAID}", 32, SMALLER),
        ("blocks", None, f"{GATED}: of MNIST {UNSAID}", 7, SMALLER),
        ("kernel", None, f"{GATED}: of MNIST {UNSAID}", 5, "sees as much as two layers of 3x3, in less time"),
        ("pixel_cnn.FIRST_KERNEL", 7, f"{PIXELCNN}, table 1"),
        ("ema_decay", None, GATED, 0.999, "a thousand steps near the end, averaged, find images more likely"),
        ("batch_size", 16, f"{PIXELCNN}, section 5.2: of MNIST", 32, "fewer, larger steps cost less an image"),
        ("optimizer", "RMSprop", f"{PIXELCNN}, section 5.2", "Adam", "what later models of the kind use"),
        ("optimizer.learning_rate", None, f"{PIXELCNN}, section 5.2: by hand", 1e-3, "fast, and falls to 1e-5"),
        ("optimizer.beta_1", 0.9, f"{ADAM}, Algorithm 1"),
        ("optimizer.beta_2", 0.999, f"{ADAM}, Algorithm 1"),
    ),
    "rbm-mnist": (
        ("units", 500, f"{ANNEALING}: of MNIST"),
        ("persistent", False, f"{ANNEALING}: CD", True, "learns more of a step's time: Tieleman, ICML 2008"),
        ("gibbs_steps", 25, f"{ANNEALING}: CD-25", 1, "chains go on from step to step"),
        ("initial_brightness", None, UNSAID, 0.13, "begins at the images' mean"),
        ("batch_size", None, UNSAID, 100, "as many as there are chains"),
        ("optimizer", "SGD", UNSAID),
        ("optimizer.learning_rate", None, UNSAID, 0.05, "best of three after 6,000 steps"),
    ),
    "dbn-mnist": (
        ("units", (500, 2_000), f"{ANNEALING}: of MNIST"),
        ("layer_steps", None, UNSAID, (120_000, 60_000), SHORTER),
        ("persistent", None, UNSAID, True, "as of rbm-mnist"),
        ("initial_brightness", None, UNSAID, 0.13, "begins at the images' mean"),
        ("batch_size", None, UNSAID, 100, "as many as there are chains"),
        ("optimizer", "SGD", UNSAID),
        ("optimizer.learning_rate", None, UNSAID, 0.05, "as of rbm-mnist"),
    ),
    "bernoulli-mixture-mnist": (
        (
            "components",
            None,
            UNSAID,
            500,
            "5 nats better on training than on held-out images: there is no room for many more",
        ),
        ("smoothing", None, UNSAID, 1e-3, "a tenth of an image in 100: held-out images are likeliest"),
        *EM,
        ("batch_size", None, UNSAID, 50_000, "all images: EM is exact"),
    ),
    "gmm-fashion-mnist": (
        ("components", None, "arXiv:1805.12462: other data", 80, SMALLER),
        ("factors", None, "arXiv:1805.12462: other data", 10, SMALLER),
        ("smoothing", None, UNSAID, 0.01, "keeps components with few images from one pixel's variance"),
        *EM,
        ("batch_size", None, UNSAID, 60_000, "all images: EM is exact"),
    ),
    "naive-bayes-mnist": (
        ("smoothing", None, UNSAID, 1e-4, "0.6 images of each color a class, near Laplace's one"),
        *EM,
        ("batch_size", None, UNSAID, 60_000, "all images: counting is exact"),
    ),
    "hmm-mnist": (
        ("states", None, UNSAID, 256, "128 do not overfit"),
        ("smoothing", None, UNSAID, 1e-3, "held-out images are likeliest"),
        *EM,
        ("batch_size", None, UNSAID, 10_000, "online EM learns from an epoch five times"),
    ),
    "vae-mnist": (
        *IWAES,
        ("optimizer.learning_rate", 1e-3, f"{IWAE}, section 5"),
        ("importance_samples", 1, f"{VAE}, section 2.3: L = 1"),
        ("warmup_steps", 0, VAE, 4_000, "keeps latents in use that collapse without it; arXiv:1602.02282"),
    ),
    "iwae-mnist": (
        *IWAES,
        (
            "optimizer.learning_rate",
            1e-3,
            f"{IWAE}, section 5",
            2e-3,
            "batches are six times as large, the run shorter",
        ),
        ("importance_samples", 5, f"{IWAE}, section 5: k = 5"),
        ("warmup_steps", 0, IWAE),
    ),
    "vae-fashion-mnist": (
        ("latent_dim", 20, f"{VAE}, figure 2: one of five sizes"),
        ("architecture", "dense", f"{VAE}, section 5"),
        ("hidden", None, UNSAID, (512, 256), SMALLER),
        ("activation", "tanh", f"{VAE}, appendix C", "relu", "usual today"),
        ("likelihood", "gaussian", f"{VAE}, section 5", "discretized_logistic", "the bound is one of a probability"),
        ("scale", "learned", "arXiv:2006.13202", 0.3, "samples look like clothes, and bits are more"),
        ("beta", 1.0, f"{VAE}, eq. 3"),
        ("importance_samples", 1, f"{VAE}, section 2.3: L = 1"),
        ("free_bits", 0.0, f"{VAE}, eq. 3"),
        ("warmup_steps", 0, f"{VAE}, eq. 3"),
        ("initial_brightness", None, UNSAID, 0.5, "the middle of the range"),
        ("batch_size", 100, f"{VAE}, section 5: M", 128, SMALLER),
        ("optimizer", "Adagrad", f"{VAE}, section 5", "Adam", ADAM_HERE),
        SURE_RATE,
        SURE_DECAY,
        ("optimizer.beta_1", 0.9, f"{ADAM}, Algorithm 1"),
    ),
    "beta-vae-fashion-mnist": (
        ("beta", 4.0, "Higgins et al., ICLR 2017"),
        ("latent_dim", 10, "arXiv:1804.03599, appendix A.1"),
        ("architecture", "convolutional", "arXiv:1804.03599, appendix A.1"),
        ("hidden", (32, 32, 32, 32), "arXiv:1804.03599, appendix A.1", (32, 64), "28x28 halves twice"),
        ("activation", "leaky ReLU", "arXiv:1804.03599, appendix A.1", "relu", "as the other autoencoders"),
        ("likelihood", "bernoulli", "arXiv:1804.03599, appendix A.1"),
        ("importance_samples", 1, f"{VAE}, section 2.3: L = 1"),
        ("free_bits", 0.0, "arXiv:1804.03599"),
        ("warmup_steps", 0, "arXiv:1804.03599"),
        ("initial_brightness", None, UNSAID, 0.29, "the mean of Fashion-MNIST's training images"),
        ("optimizer", "Adam", "arXiv:1804.03599, appendix A.1"),
        ("optimizer.learning_rate", 5e-4, "arXiv:1804.03599, appendix A.1", 1e-3, "shorter runs"),
        *AUTOENCODERS[1:],
    ),
    "cvae-mnist": (
        ("latent_dim", 50, "arXiv:1406.5298, section 4", 8, "the class is given: what is left is the hand"),
        ("hidden", (500,), "arXiv:1406.5298, section 4", (512, 256), "the default of dense autoencoders here"),
        ("activation", "softplus", "arXiv:1406.5298, section 4", "relu", "the default of dense autoencoders here"),
        ("likelihood", "bernoulli", "arXiv:1406.5298, section 4"),
        ("beta", 1.0, "arXiv:1406.5298, eq. 6"),
        ("importance_samples", 1, f"{VAE}, section 2.3: L = 1"),
        ("free_bits", 0.0, "arXiv:1406.5298, eq. 6"),
        ("warmup_steps", 0, "arXiv:1406.5298, eq. 6"),
        ("initial_brightness", None, UNSAID, 0.13, "the mean of MNIST's training images"),
        ("optimizer", None, UNSAID, "Adam", ADAM_HERE),
        *AUTOENCODERS,
    ),
    "autoencoder-fashion-mnist": (
        ("architecture", None, UNSAID, "convolutional", "images have local detail"),
        ("hidden", None, UNSAID, (32, 64), SMALLER),
        ("code_dim", None, UNSAID, 32, "1/25 of the pixels"),
        ("code_activation", None, UNSAID, "linear", "no price on the code"),
        ("loss", "squared_error", "arXiv:2003.05991, eq. 1"),
        ("corruption", "none", "arXiv:2003.05991, eq. 1"),
        ("sparsity", "none", "arXiv:2003.05991, eq. 1"),
        ("contraction_weight", 0.0, "arXiv:2003.05991, eq. 1"),
        ("optimizer", None, UNSAID, "Adam", ADAM_HERE),
        *AUTOENCODERS,
    ),
    "denoising-autoencoder-fashion-mnist": (
        ("architecture", "dense", "Vincent et al., ICML 2008", "convolutional", "images have local detail"),
        ("hidden", None, UNSAID, (32, 64), SMALLER),
        ("code_dim", None, UNSAID, 128, "noise goes by the corruption, not by a narrow code"),
        ("code_activation", "sigmoid", "Vincent et al., ICML 2008", "linear", "as the other convolutional ones"),
        ("loss", "binary_cross_entropy", "Vincent et al., ICML 2008", "squared_error", "what PSNR is of"),
        ("corruption", "masking", "Vincent et al., ICML 2008", "gaussian", "the noise that filters are held against"),
        ("corruption_level", None, UNSAID, 0.25, "a quarter of the brightness range"),
        ("optimizer", "SGD", "Vincent et al., ICML 2008", "Adam", ADAM_HERE),
        *AUTOENCODERS,
    ),
    "sparse-autoencoder-mnist": (
        ("sparsity", "kl", "CS294A lecture notes, section 3"),
        ("sparsity_target", 0.05, "CS294A lecture notes, section 3: rho"),
        (
            "sparsity_weight",
            3.0,
            "CS294A, the exercise: beta",
            1.0,
            "beside the whole squared error, summed over pixels",
        ),
        ("loss", "half squared_error", "CS294A lecture notes, section 3", "squared_error", "as the other autoencoders"),
        ("code_dim", 196, "CS294A, the vectorized exercise on MNIST"),
        ("hidden", (), "CS294A lecture notes, section 3: one layer"),
        ("code_activation", "sigmoid", "CS294A lecture notes, section 3"),
        ("contraction_weight", 0.0, "CS294A lecture notes, section 3"),
        ("corruption", "none", "CS294A lecture notes, section 3"),
        ("optimizer", "L-BFGS", "CS294A, the exercise", "Adam", ADAM_HERE),
        ("optimizer.weight_decay", 3e-3, "CS294A, the vectorized exercise: lambda", None, "optimizers here have none"),
        *AUTOENCODERS,
    ),
    "contractive-autoencoder-mnist": (
        (
            "contraction_weight",
            None,
            "arXiv:1104.4153: chosen by validation",
            0.1,
            "of the cross-entropy summed over pixels",
        ),
        ("loss", "binary_cross_entropy", "arXiv:1104.4153"),
        ("code_activation", "sigmoid", "arXiv:1104.4153, section 3"),
        ("code_dim", None, UNSAID, 120, SMALLER),
        ("hidden", (), "arXiv:1104.4153, section 3: one layer"),
        ("sparsity", "none", "arXiv:1104.4153"),
        ("corruption", "none", "arXiv:1104.4153"),
        ("optimizer", "SGD", "arXiv:1104.4153", "Adam", ADAM_HERE),
        *AUTOENCODERS,
    ),
    "cyclegan-blob-to-noto": (
        ("width", 64, f"{CYCLEGAN}, appendix 7.2", 24, SMALLER),
        ("discriminator_width", 64, f"{CYCLEGAN}, appendix 7.2", 32, SMALLER),
        ("blocks", None, f"{CYCLEGAN}, appendix 7.2: 6 for 128 pixels, 9 from 256 on"),
        ("cyclegan.BLOCKS", {128: 6, 256: 9}, f"{CYCLEGAN}, appendix 7.2"),
        ("halvings", None, f"{CYCLEGAN}, appendix 7.2: patches of 70x70; of 34x34 below 128 pixels"),
        ("cycle_weight", 10.0, f"{CYCLEGAN}, section 4"),
        ("identity_weight", 5.0, f"{CYCLEGAN}, section 5.2: half of lambda"),
        ("history", 50, f"{CYCLEGAN}, section 4"),
        ("batch_size", 1, f"{CYCLEGAN}, section 4", 4, "more images a second on a CPU"),
        ("optimizer", "Adam", f"{CYCLEGAN}, section 4"),
        ("optimizer.learning_rate", 2e-4, f"{CYCLEGAN}, section 4"),
        ("optimizer.beta_1", 0.5, "the authors' code"),
        ("optimizer.beta_2", 0.999, "the authors' code"),
        ("optimizer.decay", "linear", f"{CYCLEGAN}, section 4"),
        ("optimizer.decay_begins", 100 * 1_808, f"{CYCLEGAN}, section 4: 100 epochs", 8_000, SMALLER),
        ("optimizer.decay_steps", 100 * 1_808, f"{CYCLEGAN}, section 4: 100 epochs", 8_000, SMALLER),
    ),
    "pix2pix-blob-to-noto": (
        ("width", 64, f"{PIX2PIX}, appendix 6.1.1", 20, SMALLER),
        ("discriminator_width", 64, f"{PIX2PIX}, appendix 6.1.2", 32, SMALLER),
        ("halvings", None, f"{PIX2PIX}, appendix 6.1.1: until 1x1"),
        ("dropout", 0.5, f"{PIX2PIX}, appendix 6.1"),
        ("distance_weight", 100.0, f"{PIX2PIX}, section 6.2"),
        ("direction", "a_to_b", f"{PIX2PIX}: x to y"),
        ("jitter", 30 / 256, f"{PIX2PIX}, section 6.2: 286 cut to 256"),
        ("mirror", True, f"{PIX2PIX}, section 6.2"),
        ("batch_size", 1, f"{PIX2PIX}, appendix 6.2: 1 to 10", 8, "batch norm here keeps its means for inference"),
        *ADAM_OF_GANS,
    ),
    "srresnet-sign-digits": (
        *ENLARGERS,
        ("optimizer.learning_rate", 1e-4, f"{SRGAN}, section 3.2", 5e-4, "for 6,000 updates, not a million"),
        (
            "optimizer.decay",
            "none",
            f"{SRGAN}, section 3.2",
            "cosine",
            "ends at a rate of 0, having begun at a high one",
        ),
    ),
    "srgan-sign-digits": (
        *ENLARGERS,
        ("discriminator_width", 64, f"{SRGAN}, figure 4", 32, SMALLER),
        ("pretraining_steps", 1_000_000, f"{SRGAN}, section 3.2", 3_000, SMALLER),
        ("adversarial_weight", 1e-3, f"{SRGAN}, eq. 3"),
        (
            "extractor",
            "VGG19",
            f"{SRGAN}, section 2.2.1",
            "cnn-sign-digits",
            "it knows these images, and is in the zoo",
        ),
        ("content_layer", "conv_5_4", f"{SRGAN}, section 3.2: VGG54", "relu_3_2", "the classifier's last maps"),
        ("feature_scale", 1 / 12.75, f"{SRGAN}, section 3.2", 0.16, "chosen likewise, for these maps"),
        ("srresnet.LEAK", 0.2, f"{SRGAN}, section 2.1.1"),
        ("srresnet.UNITS", 16, f"{SRGAN}, figure 4: 1,024 beside maps of 64"),
        ("srresnet.GROWTH", (1, 2, 4, 8), f"{SRGAN}, figure 4"),
        ("optimizer.learning_rate", 1e-4, f"{SRGAN}, section 3.2", 2e-4, SHORTER),
        ("optimizer.final_learning_rate", 1e-5, f"{SRGAN}, section 3.2", 2e-5, "a tenth of the first, as published"),
        ("optimizer.decay", "one step", f"{SRGAN}, section 3.2", "cosine", SHORTER),
        ("optimizer.decay_steps", 200_000, f"{SRGAN}, section 3.2", 3_000, SMALLER),
    ),
    "cnn-fashion-mnist": (*CLASSIFIERS, MIRRORED),
    "cnn-mnist": (*CLASSIFIERS, (*MIRRORED, False, "a digit's mirror image is no digit")),
    "cnn-sign-digits": (*CLASSIFIERS, MIRRORED),
}
ROWS = [(preset, *row) for preset, rows in TABLE.items() for row in rows]


def recipe_of(preset: str) -> Any:
    return importlib.import_module(f"recipes.{preset.replace('-', '_')}").recipe


def arguments_of(preset: str) -> dict[str, Any]:
    """What the constructor is given, or its default; regularization that is not chosen is none."""
    parameters = inspect.signature(resolve_class(PRESETS[preset].model)).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    return {"augment": "", **defaults, **PRESETS[preset].arguments}


def look_up(preset: str, what: str) -> Any:
    """Ours: an argument, a recipe's number, or one of the networks'."""
    if what == "batch_size":
        return recipe_of(preset).batch_size
    room, _, name = what.rpartition(".")
    optimizers = recipe_of(preset).optimizers.values()
    if what == "optimizer":
        (found,) = {type(each).__name__ for each in optimizers}  # the same of every player
        return found
    if room == "optimizer":
        (found,) = {getattr(each, name, None) for each in optimizers}
        return found
    if room:
        module, *function = room.split(".")
        networks = importlib.import_module(f"zoo.networks.{module}")
        return (
            inspect.signature(getattr(networks, *function)).parameters[name].default
            if function
            else vars(networks)[name]
        )
    return arguments_of(preset)[what]


@pytest.mark.parametrize("row", ROWS, ids=[f"{preset}-{what}" for preset, what, *_ in ROWS])
def test_a_number_is_the_published_one_or_a_deviation_with_its_reason(row: tuple[Any, ...]) -> None:
    preset, what, published, source, *deviation = row
    assert source
    if deviation:
        ours, why = deviation
        assert ours != published
        assert why
    assert look_up(preset, what) == (deviation[0] if deviation else published)


NOT_THE_ALGORITHMS = {"image_shape", "classes", "bound_samples"}
"""Arguments that are the data's, or of what is exported."""


@pytest.mark.parametrize("preset", PRESETS)
def test_the_table_has_every_number_that_a_preset_or_its_recipe_gives(preset: str) -> None:
    named = Counter(what for what, *_ in TABLE[preset])
    assert set(named.values()) == {1}
    of_optimizers = {
        field
        for each in recipe_of(preset).optimizers.values()
        for field in ("learning_rate", "beta_1", "beta_2", "rho")
        if hasattr(each, field)
    }
    given = set(PRESETS[preset].arguments) - NOT_THE_ALGORITHMS
    needed = {"optimizer", "batch_size", *(f"optimizer.{field}" for field in of_optimizers), *given}
    assert needed - set(named) == set()
