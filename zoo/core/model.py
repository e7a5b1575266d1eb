"""`GenerativeModel`: the abstract base of every model, and what all share; of the classifiers too, for their training.

A family gives its networks, its players (who updates which networks), its losses and a `train_step` that reads like the
paper's algorithm. The base gives the rest: updates that are right on any number of replicas, noise that does not
depend on them, EMA networks, the step counter, metrics, sampling, configuration and saved state.
"""

import inspect
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal, Self

import keras
import numpy as np
import tensorflow as tf

from zoo.core import context, noise, replicas, step
from zoo.core.arguments import check_numbers
from zoo.core.batch import check_images, check_labels, rows_of
from zoo.core.inference import Inference
from zoo.core.metrics import GlobalMean
from zoo.core.precision import computing_in, full_precision, in_chosen_precision, in_full_precision
from zoo.core.types import Tensor


class GenerativeModel(Inference, keras.Model):
    """Abstract base of every model; a concrete model is final.

    A constructor takes plain data only, builds functional networks, and ends with `self.setup(...)`.
    """

    minibatches_per_step: int = 1
    """Minibatches that one train step takes, such as k for k discriminator updates: images are then (batch, k, ...)."""
    full_precision: str
    """What losses, abilities and noise are computed in: "float32", or "float64" where the model was built so."""
    plan: Any = None
    """`plan_of` the step that is being traced."""
    occasional_metrics: tuple[str, ...] = ()
    """Metrics that not every step records; their means are over the steps that do."""
    collections: Literal["one", "unpaired", "paired"] = "one"
    """What it learns from: images, or two collections of them, a batch's entries "image" and "target"."""
    lazy_intervals: Mapping[str, int] = {}
    """Player -> k, where it has one update more in every k-th step, of penalties alone; optimizers are set for that."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the constructor's arguments, so that `get_config` cannot drift from it."""
        instance = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind(instance, *args, **kwargs)
        bound.apply_defaults()
        _, *names = bound.arguments
        arguments: dict[str, Any] = {}
        for name in names:
            kind = bound.signature.parameters[name].kind
            arguments |= (
                bound.arguments[name] if kind is inspect.Parameter.VAR_KEYWORD else {name: bound.arguments[name]}
            )
        check_numbers(arguments)
        instance.__dict__["_arguments"] = arguments
        instance.__dict__["full_precision"] = full_precision()
        return instance

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make a family known to Keras, so that its models can be copied, pickled, saved and loaded.

        What builds networks does so under our settings of Keras, whatever a user has set.
        """
        super().__init_subclass__(**kwargs)
        settings = {"__init__": in_chosen_precision, "abilities": in_full_precision, "diagnose": in_full_precision}
        for name, settle in settings.items():
            if name in vars(cls):
                setattr(cls, name, settle(vars(cls)[name]))
        keras.saving.register_keras_serializable("zoo")(cls)

    def setup(self, *metric_names: str, ema: Mapping[str, tuple[keras.Model, keras.Model]] | None = None) -> None:
        """The last line of a constructor.

        Args:
            metric_names: of the metrics that `record` takes.
            ema: name -> (network, the network of the same build that holds its exponential moving average).

        Raises:
            ValueError: there are moving averages, and the constructor's `ema_decay` is not a decay.
        """
        self._trackers = {name: GlobalMean(name) for name in metric_names}
        self._gradient_norms = {player: GlobalMean(f"{player}_gradient_norm") for player in self.players}
        self._ema = dict(ema or {})
        if self._ema and not (self.ema_decay is not None and 0.0 <= self.ema_decay < 1.0):
            raise ValueError(f"ema_decay={self.ema_decay}: choose 0 <= ema_decay < 1, or None.")
        for live, average in self._ema.values():
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
        """Player -> the networks that it updates; no network belongs to two players."""

    @abstractmethod
    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One step of the algorithm; ends with `return self.record(...)`."""

    @abstractmethod
    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """Scalars that compare training images with held-out ones, both as batches of the training data are."""

    def preview(self, batch: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """What to look at of a model that neither generates images nor reconstructs them; None where it does.

        Args:
            batch: of training data, NumPy arrays; its first images are taken.

        Returns:
            uint8 (count, height, width, channels), to be shown 8 in a row: images and what the model makes of them.
        """
        return None

    def finish(self) -> None:
        """Once, after training and before an export: compute what belongs to the model and not to a step.

        Such as a normalizing constant; it is kept in a weight that is not trained. Nothing by default.
        """

    def weight_penalty(self, player: str) -> Tensor | None:
        """A term of the player's variables alone that is added to each of its losses, a scalar; None for none."""
        return None

    @property
    def score_kind(self) -> Literal["probability", "logit"] | None:
        """What the metrics `real_score` and `fake_score` are; None where the model records neither."""
        return None

    def plan_of(self, step: int) -> Hashable:
        """What of a step is decided before it is traced; the train function is traced once for each.

        Such as how far a growing network has grown, or whether a penalty that is not in every step is due: a train step
        branches on `self.plan` in Python, since updates can't stand in a branch of the graph. It must depend on the
        step and the constructor's arguments alone, so that a resumed run goes on alike.

        Args:
            step: the number of train steps done.
        """
        return None

    def updated_variables(self, player: str) -> list[keras.Variable]:
        """Of `variables_of(player)`, those that the losses of `self.plan` depend on; all by default."""
        return self.variables_of(player)

    def fresh_optimizers(self, step: int) -> Sequence[str]:
        """The players whose optimizers begin anew before this step, none by default."""
        return ()

    # Configuration

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as plain data."""
        return dict(self._arguments)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Self:
        """The model that `get_config` described, with fresh weights, in the policy of the `computing_in` around.

        So a model in half precision is loaded or copied within `computing_in` of its policy; in float32 otherwise.
        """
        return cls(**config)

    def get_compile_config(self) -> dict[str, Any]:
        """What `compile` was given, as plain data; empty before."""
        if not self.player_optimizers:
            return {}
        optimizers = {
            player: keras.saving.serialize_keras_object(optimizer)
            for player, optimizer in self.player_optimizers.items()
        }
        return {
            "seed": self._seed,
            "steps_per_execution": self.steps_per_execution,
            "run_eagerly": self.run_eagerly,
            "jit_compile": self._xla,
            "optimizers": optimizers,
        }

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """`compile` as `get_compile_config` wrote it down."""
        how = dict(config)
        optimizers = how.pop("optimizers")
        self.compile(**how, **{name: keras.saving.deserialize_keras_object(each) for name, each in optimizers.items()})

    def save_own_variables(self, store: Any) -> None:
        """The step, besides what Keras knows of: noise, the order of images and the decay of averages go on from it."""
        store["step"] = self.step.numpy()

    def load_own_variables(self, store: Any) -> None:
        """What `save_own_variables` saved."""
        self.step.assign(int(store["step"][()]))

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
            steps_per_execution: train steps per call of the compiled function.
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
        with self.distribute_strategy.scope(), computing_in(self.full_precision):
            for player, optimizer in optimizers.items():
                optimizer.build(self.variables_of(player))
                step.disable_reduction(optimizer)
        self.player_optimizers = optimizers

    # The train step's vocabulary

    def draws(self, data: Any) -> noise.Draws:
        """This step's random numbers; layers that need noise take theirs from the same object."""
        draws = context.claim_draws()
        if draws is None:  # called outside of the train function
            draws = noise.Draws(self._seed, self.step.read_value(), rows_of(data))
            context.activate(draws).draws_claimed = True
        return draws

    def hold(self, player: str, forward: Callable[[], Tensor]) -> step.HeldForward:
        """Run a forward pass of `player` and keep it open for `minimize(..., through=held)`."""
        return step.hold(player, self.updated_variables(player), forward, len(context.active().updates[player]))

    def compute_gradients(
        self,
        player: str,
        loss: step.LossFunction,
        through: step.HeldForward | None = None,
        allow_unused: bool = False,
    ) -> step.Gradients:
        """The gradients of `loss` by `player`'s variables, which stay as they are: the first half of `minimize`."""
        if through is not None and (through.player, through.updates) != (player, len(context.active().updates[player])):
            raise ValueError(
                f"the pass held for {through.player!r} can't serve {player!r}: a held pass serves its own player, "
                "and only until that player is updated."
            )
        variables, optimizer = self.updated_variables(player), self.player_optimizers[player]
        penalty = partial(self.weight_penalty, player)
        computed = step.compute_gradients(player, variables, optimizer, loss, through, penalty, allow_unused)
        under_way, check = context.active(), computed.finite_check
        before = list(under_way.order)
        under_way.computed.append((player, before))
        under_way.finite_checks.append(check if self._xla else step.check_finite(player, check, before))
        return computed

    def apply_gradients(self, computed: step.Gradients) -> step.LossValues:
        """Update the player; returns the loss's values: the second half of `minimize`.

        Raises:
            tf.errors.InvalidArgumentError: a gradient that was computed in the step so far is not finite, and a smaller
                loss scale would not mend it; no weight of the player has been touched.
        """
        player, under_way = computed.player, context.active()
        optimizer, variables = self.player_optimizers[player], self.updated_variables(player)
        with under_way.deferred.lifted() if under_way.deferred else nullcontext():
            step.apply_gradients(computed, optimizer, variables, under_way.finite_checks, compiled=self._xla)
        under_way.updates[player].append(computed)
        under_way.order.append(player)
        return computed.loss_values

    def minimize(
        self,
        player: str,
        loss: step.LossFunction,
        through: step.HeldForward | None = None,
        allow_unused: bool = False,
    ) -> step.LossValues:
        """One optimizer step of `player` down the global batch's mean of `loss`; returns the loss's values.

        Args:
            player: whose step it is.
            loss: one value per row.
            through: the pass that `hold` kept open, where the loss is a function of its output.
            allow_unused: whether the loss, such as a penalty by itself, may leave out some of the player's variables;
                the optimizer then gets a gradient of 0 for these.
        """
        return self.apply_gradients(self.compute_gradients(player, loss, through, allow_unused))

    def record(self, **rows: Tensor) -> dict[str, Tensor]:
        """Add one value per row to each metric; returns the metrics' results on this replica.

        The norm of each player's gradient is recorded by itself, as `<player>_gradient_norm`.
        """
        if not set(self._trackers) - {*self.occasional_metrics} <= set(rows) <= set(self._trackers):
            raise ValueError(f"record() got {sorted(rows)}; the constructor announced {sorted(self._trackers)}.")
        names = sorted(rows)
        *totals, count = replicas.sum_rows(*(rows[name] for name in names))
        for name, total in zip(names, totals, strict=True):
            self._trackers[name].update_state(total, count)
        for player, updates in context.active().updates.items():
            for update in updates:
                applied = tf.math.is_finite(update.norm)  # otherwise the loss scale was too high, the update skipped
                self._gradient_norms[player].update_state(tf.where(applied, update.norm, 0.0), applied)
        return {metric.name: metric.result() for metric in self.metrics}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Exactly what `record` fills."""
        return [*self._trackers.values(), *self._gradient_norms.values()]

    def variables_of(self, player: str) -> list[keras.Variable]:
        """The variables that `player` updates."""
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
    def ema_decay(self) -> float | None:
        """Decay of the EMA networks per train step; None where there are none."""
        return self._arguments.get("ema_decay")

    # Training under any strategy

    def make_train_function(self, force: bool = False) -> Callable[[Any], dict[str, Tensor]]:
        """iterator -> the metrics over all replicas, after `steps_per_execution` steps.

        Keras' own averages replicas' results, and fails on several workers and on several steps an execution.
        """
        if self.train_function is not None and not force:
            return self.train_function
        strategy = self.distribute_strategy

        @tf.autograph.experimental.do_not_convert  # no step branches on tensors; AutoGraph is 3/4 of the tracing
        def run_step(data: Any) -> None:
            data = check_images(data) if "image_shape" in self._arguments else data
            if classes := self._arguments.get("classes"):
                data = check_labels(data, len(classes))
            context.activate(noise.Draws(self._seed, self.step.read_value(), rows_of(data)))
            try:
                checks = self._compiled_step(data) if self._xla else self._plain_step(data)
            finally:
                context.deactivate()
            with tf.control_dependencies(checks):
                self._update_ema()
                self.step.assign_add(1)

        settings = tf.autograph.experimental.do_not_convert(lambda: computing_in(self.full_precision))

        def train(iterator: Any, count: Any) -> dict[str, Tensor]:
            with settings():  # of Keras, while the step is traced
                for _ in tf.range(count):
                    strategy.run(run_step, (next(iterator),))
            return {metric.name: metric.result() for metric in self.metrics}

        def train_alike(iterator: Any) -> dict[str, Tensor]:
            return train(iterator, self.steps_per_execution)

        def make_function() -> Callable[..., dict[str, Tensor]]:
            if self.run_eagerly:
                return train
            function = tf.function(train)
            function._omit_frequent_tracing_warning = True  # of one source, it is traced for every plan; on purpose
            return function

        if type(self).plan_of is not GenerativeModel.plan_of:
            self.train_function = partial(self._train_by_plan, defaultdict(make_function))
        else:
            self.train_function = train_alike if self.run_eagerly else tf.function(train_alike)
        return self.train_function

    def _train_by_plan(
        self, functions: Mapping[Hashable, Callable[..., dict[str, Tensor]]], iterator: Any
    ) -> dict[str, Tensor]:
        """`steps_per_execution` steps, consecutive ones of one plan in one call of its function."""
        done = int(self.step.numpy())
        end, metrics = done + self.steps_per_execution, {}
        while done < end:
            for player in self.fresh_optimizers(done):
                step.reset(self.player_optimizers[player])
            plan, first = self.plan_of(done), done
            done += 1
            while done < end and self.plan_of(done) == plan and not self.fresh_optimizers(done):
                done += 1
            self.plan = plan  # a function may be traced at any call
            metrics = functions[plan](iterator, tf.constant(done - first))
        return metrics

    def _plain_step(self, data: Any) -> list[Tensor]:
        """The train step; returns checks that stop on what is not finite."""
        checks, deferred = self._deferred_step(data)
        with tf.control_dependencies(checks):
            deferred.write()
        return checks

    def _deferred_step(self, data: Any) -> tuple[list[Tensor], step.DeferredState]:
        """The train step, but for what layers and metrics assign: that is still to be written."""
        under_way = context.active()
        with step.DeferredState() as deferred:
            under_way.deferred = deferred
            self.train_step(data)
        return under_way.finite_checks, deferred

    def _compiled_step(self, data: Any) -> list[Tensor]:
        """The train step, compiled by XLA but for its noise; returns checks that stop on what is not finite."""

        def compiled() -> list[Tensor]:
            checks, deferred = self._deferred_step(data)
            deferred.write(step.are_finite(checks))
            return checks

        checks, computed = step.run_with_xla(compiled), context.active().computed
        return [
            step.check_finite(player, each, before) for each, (player, before) in zip(checks, computed, strict=True)
        ]

    def _update_ema(self) -> None:
        """Average += (1 - decay) (live - average), batch-norm statistics included.

        The decay starts low, min(decay, (1 + t) / (10 + t)) at step t, so that early averages forget the random start.
        """
        if not self._ema:
            return
        done = tf.cast(self.step.read_value(), tf.float32)
        decay = tf.minimum(self.ema_decay, (1.0 + done) / (10.0 + done))
        for live, average in self._ema.values():
            for source, target in zip(live.weights, average.weights, strict=True):
                difference = target.value - source.value
                target.assign(target.value - difference * tf.cast(1.0 - decay, difference.dtype))

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the constructor has built everything (Keras would run the model on a real batch, keras#20164)."""

    # Saved state

    def state(self) -> tf.train.Checkpoint:
        """Everything a resumed run needs: networks, their EMA, every optimizer, the step."""
        # Keras tracks a dictionary of optimizers in its own way, which TensorFlow's checkpoints pass over.
        optimizers = {f"{player}_optimizer": optimizer for player, optimizer in self.player_optimizers.items()}
        return tf.train.Checkpoint(model=self, **optimizers)

    def exported_weights(self) -> dict[str, keras.Variable]:
        """Path -> variable of every network, the EMA networks standing in for those they follow."""
        followed = {id(live): average for live, average in self._ema.values()}
        return {
            f"{network.name}/{variable.path}": variable
            for networks in self.players.values()
            for network in networks
            for variable in followed.get(id(network), network).weights
        }

    def load_ema(self) -> None:
        """Overwrite each live network's weights with its EMA's, as after loading exported weights."""
        for live, average in self._ema.values():
            live.set_weights(average.get_weights())
