"""Speed of one generator of each kind, in every format it is exported to, beside the same network in PyTorch.

    python -m benchmarks.generate --rounds 7 --threads 2
    python -m benchmarks.generate --model cyclegan --side 256 --batch-sizes 1
    python -m benchmarks.generate --folder exported/dcgan-fashion-mnist

Arrays of NumPy go in (latents, noise, images) and float32 images come out. A PixelCNN's call draws a batch of samples:
the cached step of a row, as often as there are rows, where the peer computes the whole network for every pixel. An
RBM's Gibbs sampling is the same everywhere.
Networks have random weights: they change nothing about the time. Batch 1 is the latency of one image. Beside each speed
of a DCGAN stands its share of the bound, a large matrix product's FLOPs a processor second.
"""

import dataclasses
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from msgspec import UNSET

from benchmarks import harness
from benchmarks.harness import CHANNELS, Contender, NotRunError
from serving.card import Card, Data, read_card
from serving.sampling.sampler import Sampler
from serving.session import CPU, Session
from zoo.presets.table import find_preset
from zoo.pretrained import load_pretrained

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]]  # arrays by input name -> arrays by output name
Parameters = Sequence[Any]
Built = tuple[Run, Parameters]  # parameters where they are known
Peer = tuple[Any, Callable[..., Any]]  # the network, and what makes images of its inputs, all with channels first


@dataclass(frozen=True)
class Kind:
    """A kind of generator.

    Args:
        preset: whose model is measured.
        peer: the module in `benchmarks.peers`.
        build_peer: (that module, the model's arguments) -> the peer.
        network: the model's attribute that holds the network, whose parameters are to be as many as the peer's.
    """

    preset: str
    peer: str
    build_peer: Callable[[Any, Mapping[str, Any]], Peer]
    network: str = "generator"


def build_dcgan(peer: Any, arguments: Mapping[str, Any]) -> Peer:
    """latent -> image."""
    size, _, channels = arguments["image_shape"]
    network = peer.generator(
        size, channels, arguments.get("latent_dim") or harness.LATENT_DIM, arguments.get("width") or peer.WIDTH
    )
    return network, lambda latent: network(latent[:, :, None, None])


def build_stylegan2(peer: Any, arguments: Mapping[str, Any]) -> Peer:
    """latent, noise -> image; without truncation, which moves a style of a few numbers."""
    size, _, channels = arguments["image_shape"]
    names = ("latent_dim", "style_dim", "mapping_layers", "channel_base", "channel_max")
    network = peer.Generator(size, channels, *(arguments[name] for name in names))

    def generate(latent: Any, truncation: Any, *noise: Any) -> Any:
        styles = network.mapping(latent)[:, None].expand(-1, network.style_count, -1)
        return network(styles, noise)

    return network, generate


def build_translator(peer: Any, arguments: Mapping[str, Any]) -> Peer:
    """image -> image."""
    network = peer.translator(arguments["image_shape"][-1], arguments["width"], arguments.get("blocks") or 6)
    return network, network


def build_upscaler(peer: Any, arguments: Mapping[str, Any]) -> Peer:
    """image -> image."""
    network = peer.generator(arguments["image_shape"][-1], arguments["width"], arguments["blocks"])
    return network, network


def build_pixel_cnn(peer: Any, arguments: Mapping[str, Any]) -> Peer:
    """uniform numbers -> samples; computes the whole network for every pixel."""
    names = ("levels", "filters", "blocks", "kernel")
    network = peer.PixelCNN(*(arguments[name] for name in names))
    return network, network.sample


def build_rbm(peer: Any, arguments: Mapping[str, Any]) -> Peer:
    """numbers, of which the count alone matters -> samples, by as many steps of Gibbs sampling as the model takes."""
    height, width, channels = arguments["image_shape"]
    network = peer.RBM(height * width * channels, arguments["units"])

    def sample(numbers: Any) -> Any:
        means = network.sample(len(numbers), arguments["sampling_steps"])
        return 2.0 * means.reshape(-1, channels, height, width) - 1.0

    return network, sample


KINDS = {
    "dcgan": Kind("dcgan-images", "dcgan", build_dcgan),
    "stylegan2": Kind("stylegan2-sign-digits", "stylegan2", build_stylegan2),
    "cyclegan": Kind("cyclegan-blob-to-noto", "cyclegan", build_translator, "a_to_b"),
    "srresnet": Kind("srresnet-sign-digits", "srresnet", build_upscaler),
    "pixelcnn": Kind("pixelcnn-mnist", "pixel_cnn", build_pixel_cnn, "network"),
    "rbm": Kind("rbm-mnist", "rbm", build_rbm, "machine"),
}


@dataclass(frozen=True, kw_only=True)
class Options(harness.Options):
    """Speed of a generator in every format, side by side."""

    model: Literal["dcgan", "stylegan2", "cyclegan", "srresnet", "pixelcnn", "rbm"] = "dcgan"
    """Its kind: from latents, from images (a translator, and SRResNet, which enlarges four times), step by step."""
    tiny: bool = False
    """The preset's twin at test size; a DCGAN's size is that of --image-size and --width."""
    side: int = 64
    """Of the images that go in, where such do, pixels."""
    batch_sizes: tuple[int, ...] = (1, 8, 64)
    """Images a call."""
    images: int = 64
    """Images a turn, but at least one call."""
    folder: str = ""
    """Of an exported model of this kind; by default one with random weights is exported for this run."""

    @property
    def kind(self) -> Kind:
        """The table's entry."""
        return KINDS[self.model]


def onnx_runtime(card: Card, options: Options) -> Built:
    """`serving.Session`."""
    return Session(find_graph(card, options), providers=[CPU], threads=options.threads).run, ()


def openvino(card: Card, options: Options) -> Built:
    """The same ONNX file, compiled by OpenVINO in float32."""
    try:
        import openvino
    except ImportError as error:
        raise NotRunError(f"OpenVINO can't be imported: {error}") from None
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": options.threads}
    compiled = openvino.Core().compile_model(find_graph(card, options), "CPU", settings)
    names = [spec.name for spec in card.abilities[card.default_ability].outputs]

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = compiled(dict(feeds))
        return {name: outputs[name] for name in names}

    return run, ()


def saved_model(card: Card, options: Options) -> Built:
    """The default signature of the SavedModel."""
    import tensorflow as tf

    folder = Path(options.folder) / "saved_model" / "1"
    if not folder.is_dir():
        raise NotRunError(f"{options.folder} holds no SavedModel")
    loaded = tf.saved_model.load(str(folder))

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = loaded.signatures["serving_default"](**{name: tf.constant(each) for name, each in feeds.items()})
        return {name: each.numpy() for name, each in outputs.items()}

    return run, ()


def keras_call(card: Card, options: Options) -> Built:
    """The compiled function that `GenerativeModel.sample` calls."""
    model = load_pretrained(options.folder)
    parameters = getattr(model, options.kind.network).trainable_weights
    return partial(model.run_ability, card.default_ability), parameters


def keras_predict(card: Card, options: Options) -> Built:
    """`keras.Model.predict`."""
    import keras

    ability = load_pretrained(options.folder).abilities()[card.default_ability]

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays = [feeds[tensor.name] for tensor in ability.network.inputs]
        outputs = ability.network.predict(
            arrays if len(arrays) > 1 else arrays[0], batch_size=max(map(len, arrays)), verbose=0
        )
        return dict(zip(ability.output_names, keras.tree.flatten(outputs), strict=True))

    return run, ()


def pytorch(card: Card, options: Options, *, compiled: bool = False) -> Built:
    """The peer in evaluation mode, with weights of its own; eager, or its network through `torch.compile`."""
    torch, peer = harness.import_pytorch(options.kind.peer)
    if compiled and not (shutil.which("g++") or shutil.which("clang++")):
        raise NotRunError("torch.compile needs a C++ compiler: there is neither g++ nor clang++")
    network, generate = options.kind.build_peer(peer, card.model["arguments"])
    network.eval()
    if compiled and type(network).forward is torch.nn.Module.forward:
        raise NotRunError(f"the peer of {options.model} has no forward pass, which torch.compile would take")
    if compiled:
        network.compile(dynamic=False)
    output = card.abilities[card.default_ability].outputs[0].name

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        channels_first = (np.moveaxis(each, -1, 1) if each.ndim == 4 else each for each in feeds.values())
        with torch.no_grad():
            images = generate(*(torch.from_numpy(np.ascontiguousarray(each)) for each in channels_first))
        return {output: np.moveaxis(images.numpy(), 1, -1)}

    return run, list(network.parameters())


pytorch_compiled = partial(pytorch, compiled=True)
PEERS = (pytorch, pytorch_compiled)


def find_graph(card: Card, options: Options) -> Path:
    """The ONNX file of the default ability; NotRunError where there is none."""
    file = card.abilities[card.default_ability].file
    if file is None:
        raise NotRunError(f"{options.folder} holds no ONNX file")
    return Path(options.folder) / file


def contender(build: Callable[[Card, Options], Built], options: Options) -> Contender:
    """What `build` builds, fed with arrays of its own; a step of a sampler is repeated, where it is one."""
    card = read_card(Path(options.folder))
    ability = card.abilities[card.default_ability]
    run_ability, parameters = build(card, options)
    output, side = Sampler(ability, run_ability).image, options.side * ability.scale
    row = tuple(side if isinstance(size, str) else size for size in output.shape[1:])

    def make_images(batch: int) -> Callable[[], np.ndarray]:
        """What makes a batch of images, its inputs drawn beforehand."""
        random = np.random.default_rng(0)
        if ability.iteration is not UNSET and build in PEERS:
            feeds = {"uniform": random.random((batch, *row), np.float32)}
        elif ability.iteration is not UNSET:
            return lambda: np.asarray(Sampler(ability, run_ability, batch_size=batch).sample(batch))
        elif ability.inputs[0].feed == "image":
            shape = (batch, options.side, options.side, ability.inputs[0].shape[-1])
            feeds = {ability.inputs[0].name: random.uniform(-1, 1, shape).astype(np.float32)}
        else:
            feeds = Sampler(ability, run_ability).make_feeds(batch)
        return lambda: next(iter(run_ability(feeds).values()))

    def run(batch: int, calls: int) -> int:
        make = make_images(batch)
        for _ in range(calls):
            images = make()
        if images.shape != (batch, *row) or not np.isfinite(images).all():
            raise ValueError(f"what came out are no images, but an array of shape {images.shape}")
        return calls

    is_free = any(isinstance(size, str) for size in output.shape[1:])
    note = f"an image that comes out has {side * side / 1e6:.4g} megapixels" if is_free else ""
    return Contender(run, harness.parameters_of(generator=parameters) if parameters else {}, note=note)


CONTENDERS = {
    "onnx-runtime": partial(contender, onnx_runtime),
    "openvino": partial(contender, openvino),
    "saved-model": partial(contender, saved_model),
    "keras-call": partial(contender, keras_call),
    "keras-predict": partial(contender, keras_predict),
    "pytorch": partial(contender, pytorch),
    "pytorch-compiled": partial(contender, pytorch_compiled),
}


def export_model(options: Options, folder: str) -> None:
    """Write the kind's model with random weights, in every format, to `folder`."""
    from zoo.export.export import export
    from zoo.presets.table import resolve_class

    preset = find_preset(options.kind.preset)
    if options.model == "dcgan":
        arguments = {"image_shape": (options.image_size, options.image_size, CHANNELS), "width": options.width}
        preset = dataclasses.replace(preset, arguments=arguments)
    elif options.tiny:
        preset = preset.twin()
    model = resolve_class(preset.model)(**preset.arguments)
    export(model, Path(folder), preset=preset, data=Data("none", "none", 1, "none", "none"), recipe={})


def count_flops(folder: str) -> dict[str, float]:
    """Contender -> FLOPs that the generator's convolutions and dense layers need for an image."""
    from benchmarks.flops import network_flops
    from benchmarks.models import Passes

    network = load_pretrained(folder).abilities()["generate"].network
    return dict.fromkeys(CONTENDERS, float(network_flops(network, Passes(forward=1))))


def main(arguments: Sequence[str] | None = None) -> None:
    options = tyro.cli(Options, args=arguments, description=__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(Path(options.folder or f"{temporary}/{options.kind.preset}").resolve())
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # this process stays light
            if not options.folder:
                pool.submit(export_model, options, folder).result()
            flops = pool.submit(count_flops, folder).result() if options.model == "dcgan" else None
        cases = {batch: max(1, options.images // batch) for batch in options.batch_sizes}
        options = dataclasses.replace(options, folder=folder)
        outcome = harness.compare("benchmarks.generate", CONTENDERS, options, cases, flops)
        shape = next(iter(read_card(Path(folder)).abilities.values())).outputs[0].shape
    harness.report(f"{options.model}, {'x'.join(map(str, shape[1:]))}", outcome)


if __name__ == "__main__":
    main()
