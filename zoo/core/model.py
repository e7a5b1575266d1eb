"""`GenerativeModel`: what every family shares, and the only abstract base.

A family gives its networks, its players (who moves which networks), its losses and a `train_step` that reads like the
paper's algorithm. The base gives the rest: updates that are right on any number of replicas, noise that does not
depend on them, averages, the step counter, metrics, sampling, configuration and saved state.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from serving.card import Ability as AbilityCard
from serving.card import Feed, Input, Kind, Output
from serving.likelihood import Bound, log_prob
from serving.sampler import OutputType, Sampler, run_in_batches
from serving.session import check_feeds
from zoo.core import noise, step
from zoo.core.metrics import GlobalMean

Tensor = Any

ROWS = 250  # of one run of an ability


@dataclass(frozen=True, eq=False)
class Ability:
    """One exported graph.

    Args:
        network: functional, float32, with named inputs and outputs and no random op.
        feeds: what feeds each input, by name (`serving.card.Input.feed`).
        kinds: what each output is, by name (`serving.card.Output.kind`).
        ranges: value range of an input or output, by name, where it is bounded.
        classes: names of the classes, by number, of each input that is a label.
    """

    network: keras.Model
    feeds: Mapping[str, Feed]
    kinds: Mapping[str, Kind]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def card(self, file: str | None = None) -> AbilityCard:
        """The same as plain data, for card.json."""
        inputs = tuple(
            Input(
                tensor.name,
                tensor.dtype,
                free(tensor.shape),
                self.feeds[tensor.name],
                self.ranges.get(tensor.name),
                tuple(self.classes.get(tensor.name, ())),
            )
            for tensor in self.network.inputs
        )
        outputs = tuple(
            Output(
                name,
                tensor.dtype,
                free(tensor.shape),
                self.kinds[name],
                self.ranges.get(name),
                layout="NHWC" if self.kinds[name] == "image" else None,
            )
            for name, tensor in zip(self.output_names, self.network.outputs, strict=True)
        )
        return AbilityCard(inputs, outputs, file)

    @property
    def output_names(self) -> list[str]:
        """Names of the network's outputs: those of the layers that make them."""
        return list(self.network.output_names)

    def __call__(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by input name -> tensors by output name, in inference mode."""
        tensors = [feeds[tensor.name] for tensor in self.network.inputs]
        outputs = self.network(tensors if len(tensors) > 1 else tensors[0], training=False)
        return dict(zip(self.output_names, keras.tree.flatten(outputs), strict=True))

    def signature(self) -> list[tf.TensorSpec]:
        """The inputs, with a free batch dimension."""
        return [tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name) for tensor in self.network.inputs]


def named_network(inputs: Sequence[keras.KerasTensor], outputs: Mapping[str, keras.KerasTensor]) -> keras.Model:
    """A functional network whose outputs go by these names."""
    return keras.Model(inputs, [keras.layers.Identity(name=name)(tensor) for name, tensor in outputs.items()])


def free(shape: Sequence[int | None]) -> tuple[int | str, ...]:
    """A Keras shape with its free dimensions named: the first is the batch, then height and width."""
    names = ("batch", "height", "width")
    return tuple(names[axis] if size is None else size for axis, size in enumerate(shape))


class GenerativeModel(keras.Model, ABC):
    """Abstract base of every model; a concrete model is final.

    A constructor takes plain data only, builds functional networks, and ends with `self.finish(...)`.
    """

    pictures_per_row: int = 1
    """Pictures in a row of the training data: one for each update of the player that moves most often in a step."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the constructor's arguments, so that `get_config` cannot drift from it."""
        instance = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind(instance, *args, **kwargs)
        bound.apply_defaults()
        instance.__dict__["_arguments"] = dict(list(bound.arguments.items())[1:])
        return instance

    def finish(self, *trackers: str, averages: Mapping[str, tuple[keras.Model, keras.Model]] | None = None) -> None:
        """The last line of a constructor.

        Args:
            trackers: names of the metrics that `record` takes.
            averages: name -> (network, the network of the same build that follows its moving average).

        Raises:
            ValueError: there are averages, and the constructor's `average_decay` is not a decay.
        """
        self._trackers = {name: GlobalMean(name) for name in trackers}
        self._gradient_norms = {player: GlobalMean(f"{player}_gradient_norm") for player in self.players}
        self._averages = dict(averages or {})
        if self._averages and not (self.average_decay is not None and 0.0 <= self.average_decay < 1.0):
            raise ValueError(f"average_decay={self.average_decay}: choose 0 <= average_decay < 1, or None.")
        for live, average in self._averages.values():
            average.trainable = False
            average.set_weights(live.get_weights())
        self.step = tf.Variable(
            0, trainable=False, dtype=tf.int64, name="step", aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
        )
        self._seed = 0
        self._xla = False
        self.player_optimizers: dict[str, keras.optimizers.Optimizer] = {}
        self.train_function: Callable[[Any], dict[str, Tensor]] | None = None
        self.built = True

    # What a family gives

    @property
    @abstractmethod
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """Player -> the networks it moves; no network belongs to two players."""

    @abstractmethod
    def abilities(self) -> Mapping[str, Ability]:
        """Name -> what the model can do once exported; the first is the default."""

    @abstractmethod
    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One step of the algorithm; ends with `return self.record(...)`."""

    @abstractmethod
    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """Scalars that compare training pictures with held-out ones, both as batches of the training data are."""

    # Configuration

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as plain data."""
        return dict(self._arguments)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Self:
        """The model that `get_config` described, with fresh weights."""
        return cls(**config)

    def compile(
        self,
        *,
        seed: int = 0,
        steps_per_execution: int = 1,
        run_eagerly: bool = False,
        jit_compile: bool = False,
        **optimizers: keras.optimizers.Optimizer,
    ) -> None:
        """Give every player its optimizer, built at once.

        Args:
            seed: of all training noise, 0 <= seed < 2**63.
            steps_per_execution: train steps a call of the compiled function.
            run_eagerly: run without compiling, for debugging.
            jit_compile: let XLA compile the step, on one replica. Same numbers up to rounding, the noise too, which is
                drawn outside; the first step takes longer, the others less.
            **optimizers: player -> optimizer, one each. Where layers compute in float16, each is put into a
                `LossScaleOptimizer` that does not scale the loss already.

        Raises:
            ValueError: a player without an optimizer, an optimizer without a player, one optimizer for two; XLA with
                several replicas or without a graph.
        """
        if set(optimizers) != set(self.players):
            raise ValueError(
                f"compile() got optimizers for {sorted(optimizers)}; {type(self).__name__} has the players "
                f"{sorted(self.players)}, each with an optimizer of its own."
            )
        if len({id(optimizer) for optimizer in optimizers.values()}) < len(optimizers):
            raise ValueError("two players share one optimizer: give each its own, its state is the player's.")
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed={seed}: choose 0 <= seed < 2**63.")
        if jit_compile and (run_eagerly or self.distribute_strategy.num_replicas_in_sync > 1):
            raise ValueError("jit_compile=True takes one replica and run_eagerly=False: XLA compiles no collectives.")
        super().compile(
            optimizer=None,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=False,
        )
        self._xla = jit_compile  # Keras would leave it off in silence where operations are deterministic
        self._seed = seed
        if self.computes_in("float16"):
            optimizers = {player: step.with_loss_scale(optimizer) for player, optimizer in optimizers.items()}
        with self.distribute_strategy.scope():
            for player, optimizer in optimizers.items():
                optimizer.build(self.variables_of(player))
                step.without_reduction(optimizer)
        self.player_optimizers = optimizers

    # The train step's vocabulary

    def draws(self, data: Any) -> noise.Draws:
        """This step's random numbers; layers that need noise take theirs from the same object."""
        prepared = noise.prepared()
        if prepared is not None:
            return prepared
        draws = noise.Draws(self._seed, self.step.read_value(), rows_of(data))
        draws.begun = True
        noise.activate(draws)
        return draws

    def hold(self, player: str, forward: Callable[[], Tensor]) -> step.Held:
        """Run a forward pass of `player` and keep it open for `improve(..., through=held)`."""
        return step.hold(player, self.variables_of(player), forward, len(noise.active().moves[player]))

    def direction(self, player: str, loss: step.Loss, through: step.Held | None = None) -> step.Direction:
        """Where `player` would move to lower `loss`, without moving it."""
        if through is not None and (through.player, through.moves) != (player, len(noise.active().moves[player])):
            raise ValueError(
                f"the pass held for {through.player!r} can't improve {player!r}: a held pass serves its own player, "
                "and only until that player moves."
            )
        scale_loss = self.player_optimizers[player].scale_loss
        return step.direction(player, self.variables_of(player), loss, through, scale_loss)

    def follow(self, move: step.Direction) -> step.Rows:
        """Make the update; returns the loss's rows."""
        variables = self.variables_of(move.player)
        update = step.follow(move, self.player_optimizers[move.player], variables, compiled=self._xla)
        noise.active().moves[move.player].append(update)
        return move.rows

    def improve(self, player: str, loss: step.Loss, through: step.Held | None = None) -> step.Rows:
        """Move `player` against the gradient of `loss`, the mean over the global batch; returns the loss's rows."""
        return self.follow(self.direction(player, loss, through))

    def record(self, **rows: Tensor) -> dict[str, Tensor]:
        """Add one value a row to each metric; returns the metrics' results on this replica.

        The norm of each player's gradient is recorded by itself, as `<player>_gradient_norm`.
        """
        if set(rows) != set(self._trackers):
            raise ValueError(f"record() got {sorted(rows)}; the constructor announced {sorted(self._trackers)}.")
        names = sorted(rows)
        *totals, count = step.sums(*(rows[name] for name in names))
        for name, total in zip(names, totals, strict=True):
            self._trackers[name].update_state(total, count)
        for player, updates in noise.active().moves.items():
            for update in updates:
                applied = tf.math.is_finite(update.norm)  # otherwise the loss scale was too high, the update skipped
                self._gradient_norms[player].update_state(tf.where(applied, update.norm, 0.0), applied)
        return {metric.name: metric.result() for metric in self.metrics}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Exactly what `record` fills."""
        return [*self._trackers.values(), *self._gradient_norms.values()]

    def variables_of(self, player: str) -> list[keras.Variable]:
        """The variables that `player` moves."""
        return [variable for network in self.players[player] for variable in network.trainable_variables]

    def computes_in(self, dtype: str) -> bool:
        """Whether a layer of any player's networks computes in `dtype`."""
        return any(
            layer.compute_dtype == dtype
            for networks in self.players.values()
            for network in networks
            for layer in network.layers
        )

    @property
    def average_decay(self) -> float | None:
        """Decay of the moving averages a step; None where there are none."""
        return self._arguments.get("average_decay")

    # Training under any strategy

    def make_train_function(self, force: bool = False) -> Callable[[Any], dict[str, Tensor]]:
        """iterator -> the metrics over all replicas, after `steps_per_execution` steps.

        Keras' own averages replicas' results, and fails on several workers and on several steps an execution.
        """
        if self.train_function is not None and not force:
            return self.train_function
        strategy = self.distribute_strategy

        def run_step(data: Any) -> None:
            noise.activate(noise.Draws(self._seed, self.step.read_value(), rows_of(data)))
            try:
                checks = self._compiled_step(data) if self._xla else self.train_step(data).values()
            finally:
                noise.activate(None)
            with tf.control_dependencies(checks):
                self._follow_averages()
                self.step.assign_add(1)

        def train(iterator: Any) -> dict[str, Tensor]:
            for _ in tf.range(self.steps_per_execution):
                strategy.run(run_step, (next(iterator),))
            return {metric.name: metric.result() for metric in self.metrics}

        self.train_function = train if self.run_eagerly else tf.function(train)
        return self.train_function

    def _compiled_step(self, data: Any) -> list[Tensor]:
        """The train step, compiled by XLA but for its noise; returns checks that stop on what is not finite."""

        def compiled() -> dict[str, list[Tensor]]:
            self.train_step(data)
            return {player: [each.suspect for each in moves] for player, moves in noise.active().moves.items()}

        suspects = step.compile_with_xla(compiled)
        return [step.finite(player, each) for player, found in suspects.items() for each in found]

    def _follow_averages(self) -> None:
        """Average += (1 - decay) (live - average), batch-norm statistics included.

        The decay starts low, min(decay, (1 + t) / (10 + t)) at step t, so that early averages forget the random start.
        """
        if not self._averages:
            return
        done = tf.cast(self.step.read_value(), tf.float32)
        decay = tf.minimum(self.average_decay, (1.0 + done) / (10.0 + done))
        for live, average in self._averages.values():
            for source, target in zip(live.weights, average.weights, strict=True):
                difference = target.value - source.value
                target.assign(target.value - difference * tf.cast(1.0 - decay, difference.dtype))

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the constructor has built everything (Keras would run the model on a real batch, keras#20164)."""

    # Saved state

    def state(self) -> tf.train.Checkpoint:
        """Everything a resumed run needs: networks, averages, every optimizer, the step."""
        # Keras tracks a dictionary of optimizers in its own way, which TensorFlow's checkpoints pass over.
        optimizers = {f"{player}_optimizer": optimizer for player, optimizer in self.player_optimizers.items()}
        return tf.train.Checkpoint(model=self, **optimizers)

    def exported_weights(self) -> dict[str, keras.Variable]:
        """Path -> variable of every network, the averages standing in for the networks they follow."""
        followed = {id(live): average for live, average in self._averages.values()}
        return {
            f"{network.name}/{variable.path}": variable
            for networks in self.players.values()
            for network in networks
            for variable in followed.get(id(network), network).weights
        }

    def adopt_averages(self) -> None:
        """Set every averaged network to its average, as after loading exported weights."""
        for live, average in self._averages.values():
            live.set_weights(average.get_weights())

    # Sampling

    def run_ability(self, name: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one ability: arrays by input name -> arrays by output name.

        Args:
            name: of the ability.
            feeds: float64 does for float32, and int64 for int32.

        Raises:
            serving.session.InputError: an array is missing, not known, of another shape or of another kind.
        """
        return self._run(name, self._fitting(name, feeds))

    def sample(
        self, count: int, seed: int = 0, *, output_type: OutputType = "uint8", batch_size: int = 64, **choices: Any
    ) -> Any:
        """Draw pictures; picture i depends on (seed, i) alone.

        Args:
            count: how many.
            seed: 0 <= seed < 2**64.
            output_type: "uint8" or "float32", an array (count, height, width, channels); "pil", a list of pictures.
            batch_size: pictures a call of the network.
            **choices: what else the ability takes, such as `labels`.
        """
        ability = self._ability("generate").card()
        sampler = Sampler(ability, lambda feeds: self.run_ability("generate", feeds), batch_size=batch_size)
        return sampler.sample(count, seed, output_type=output_type, **choices)

    def encode(self, images: np.ndarray, **more: np.ndarray) -> np.ndarray:
        """Codes of pictures, (count, units); of a model with a posterior its mean.

        Args:
            images: (count, height, width, channels) in [-1, 1].
            **more: what else the ability takes, such as `label`, (count,).

        Raises:
            ValueError: the model has no such ability; likewise below.
        """
        return self._first_output("encode", image=images, **more)

    def decode(self, codes: np.ndarray, **more: np.ndarray) -> np.ndarray:
        """Pictures in [-1, 1], (count, height, width, channels), of codes or latents, (count, units)."""
        name = self._ability("decode").network.inputs[0].name
        return self._first_output("decode", **{name: codes}, **more)

    def reconstruct(self, images: np.ndarray, **more: np.ndarray) -> np.ndarray:
        """What decoding gives back of pictures, both (count, height, width, channels) in [-1, 1]."""
        return self._first_output("reconstruct", image=images, **more)

    def log_prob(self, images: np.ndarray, **options: Any) -> Bound:
        """A lower bound of each picture's log p(x), nats.

        Of grey pictures under a Bernoulli likelihood it bounds no log-probability: it is a cross-entropy, not
        normalised.

        Args:
            images: (count, height, width, channels) in [-1, 1].
            **options: samples, seed, bound and others of `serving.likelihood.log_prob`.
        """
        ability = self._ability("log_prob").card()
        return log_prob(ability, lambda feeds: self.run_ability("log_prob", feeds), images, **options)

    def _ability(self, name: str) -> Ability:
        if name not in self._abilities:
            raise ValueError(f"{type(self).__name__} can't {name}: its abilities are {', '.join(self._abilities)}.")
        return self._abilities[name]

    def _fitting(self, name: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What `run_ability` takes, in the inputs' own types."""
        specs = self._ability(name).card().inputs
        arrays = {key: np.asarray(value) for key, value in feeds.items()}
        for spec in specs:
            if spec.name in arrays and arrays[spec.name].dtype.kind == np.dtype(spec.dtype).kind:
                arrays[spec.name] = arrays[spec.name].astype(spec.dtype, copy=False)
        check_feeds(specs, arrays)
        return arrays

    def _run(self, name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """An ability on arrays that fit."""
        return {key: value.numpy() for key, value in self._ability_functions[name](dict(arrays)).items()}

    def _first_output(self, name: str, **feeds: np.ndarray) -> np.ndarray:
        """Of an ability, some rows at a time."""
        ability, arrays = self._ability(name), self._fitting(name, feeds)
        outputs = run_in_batches(partial(self._run, name), ability.card().inputs, arrays, ROWS)
        return outputs[ability.output_names[0]]

    @cached_property
    def _abilities(self) -> Mapping[str, Ability]:
        return self.abilities()  # each call builds the networks anew

    @cached_property
    def _ability_functions(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Tensor]]]:
        return {
            name: tf.function(ability, input_signature=[{spec.name: spec for spec in ability.signature()}])
            for name, ability in self._abilities.items()
        }


def averaged(
    live: keras.Model, build: Callable[..., keras.Model], average_decay: float | None
) -> tuple[keras.Model, dict[str, tuple[keras.Model, keras.Model]]]:
    """The network that is sampled and exported, and the averages that `finish` takes.

    Args:
        live: the network that learns.
        build: what built it; called with the name of another.
        average_decay: None where `live` itself is exported.
    """
    if average_decay is None:
        return live, {}
    average = build(name=f"{live.name}_average")
    return average, {live.name: (live, average)}


def picture_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """A constructor's `image_shape`, once it is known to be (height, width, channels); ValueError otherwise."""
    if len(image_shape) != 3:
        raise ValueError(f"image_shape={tuple(image_shape)}: give (height, width, channels).")
    height, width, channels = image_shape
    return height, width, channels


def class_names(classes: Sequence[str]) -> tuple[str, ...]:
    """A constructor's `classes`, once they are known to be two or more, each once; ValueError otherwise."""
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"classes={list(classes)}: name at least two, each once.")
    return tuple(classes)


def images_of(data: Any) -> Tensor:
    """The pictures of a batch: a tensor, the first of a tuple, or the entry "image" of a dictionary."""
    if isinstance(data, Mapping):
        return data["image"]
    return data[0] if isinstance(data, (tuple, list)) else data


def turns_of(data: Any, k: int, argument: str) -> list[Tensor]:
    """One batch of pictures for each of k updates in a step.

    Args:
        data: holds images, (batch, k, height, width, channels), or without the second axis where k = 1.
        k: the constructor's `argument`.
        argument: its name.

    Raises:
        ValueError: the data do not hold k pictures a row.
    """
    images = images_of(data)
    if k == 1 and len(images.shape) == 4:
        return [images]
    if len(images.shape) != 5 or images.shape[1] != k:
        raise ValueError(
            f"{argument}={k} takes images of shape (batch, {k}, height, width, channels), got {tuple(images.shape)}; "
            f"recipes.data.batches(..., pictures_per_row={k}) gives them."
        )
    return tf.unstack(images, k, axis=1)


def labelled_turns_of(data: Any, k: int, argument: str) -> list[tuple[Tensor, Tensor]]:
    """`turns_of`, each batch of pictures with its classes, (batch,) int32.

    Raises:
        ValueError: the data do not hold k pictures and k labels a row.
    """
    images, labels = turns_of(data, k, argument), tf.cast(labels_of(data), tf.int32)
    if k == 1 and len(labels.shape) == 1:
        return [(images[0], labels)]
    if len(labels.shape) != 2 or labels.shape[1] != k:
        raise ValueError(f"{argument}={k} takes labels of shape (batch, {k}), got {tuple(labels.shape)}.")
    return list(zip(images, tf.unstack(labels, k, axis=1), strict=True))


def with_features(judge: keras.Model, last: str) -> keras.Model:
    """The same network, giving first what its layer `last` is given, then all that it gives by itself."""
    return keras.Model(judge.input, [judge.get_layer(last).input, *judge.outputs])


def labels_of(data: Any) -> Tensor:
    """The classes of a batch, (batch,) integers: the second of a tuple, or the entry "label" of a dictionary.

    Raises:
        ValueError: the data have none.
    """
    if isinstance(data, Mapping) and "label" in data:
        return data["label"]
    if isinstance(data, (tuple, list)) and len(data) > 1:
        return data[1]
    raise ValueError("this model learns from labelled pictures: give a data set with classes, or a folder a class.")


def rows_of(data: Any) -> Tensor:
    """Row numbers in the global batch, (batch,) int64: the entry "row", or 0, 1, ... on a single replica.

    Raises:
        ValueError: several replicas and no row numbers: each would draw the same noise.
        tf.errors.InvalidArgumentError: a replica has no row.
    """
    if isinstance(data, Mapping) and "row" in data:
        return step.some(data["row"])
    if step.replicas_in_sync() > 1:
        raise ValueError(
            'training on several replicas needs the global row numbers in the data, {"image": ..., "row": ...}; '
            "recipes.data.batches gives them."
        )
    return tf.range(tf.shape(images_of(data))[0], dtype=tf.int64)
