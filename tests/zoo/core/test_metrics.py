"""`GlobalMean` against arithmetic on paper."""

import keras
import numpy as np
import tensorflow as tf

from zoo.core.metrics import GlobalMean


def test_the_mean_is_that_of_all_values_so_far_and_0_before():
    metric = GlobalMean("loss")
    assert metric.name == "loss"
    assert metric.result() == 0.0
    metric.update_state(6.0, 3)  # three values of sum 6, then one of 4: (6 + 4) / (3 + 1)
    metric.update_state(4.0, 1)
    assert metric.result() == 2.5
    metric.update_state(0.0, 0)  # an update that was skipped
    assert metric.result() == 2.5
    metric.reset_state()
    assert metric.result() == 0.0


def test_numbers_of_any_type_are_added_in_the_metric_s_own():
    metric = GlobalMean("loss")
    metric.update_state(tf.constant(1.5, tf.float64), tf.constant(True))
    metric.update_state(tf.constant(0.5, tf.float16), tf.constant(1, tf.int32))
    assert metric.result() == 1.0
    assert keras.backend.standardize_dtype(metric.result().dtype) == "float32"


def test_replicas_count_the_same_numbers_once(strategy_of):
    """Every replica adds what all have alike; `keras.metrics.Mean` would add the copies up."""
    strategy = strategy_of(2)
    with strategy.scope():
        metric = GlobalMean("loss")

    @tf.function
    def step(total, count):
        strategy.run(metric.update_state, (total, count))
        return metric.result()

    assert step(tf.constant(6.0), tf.constant(3.0)).numpy() == 2.0
    assert step(tf.constant(4.0), tf.constant(1.0)).numpy() == 2.5
    for copy in strategy.experimental_local_results(metric.total.value):
        assert copy.numpy() == 10.0


def test_reading_it_needs_no_collective_operation(strategy_of):
    strategy = strategy_of(2)
    with strategy.scope():
        metric = GlobalMean("loss")

    @tf.function
    def read():
        return strategy.experimental_local_results(strategy.run(metric.result))

    graph = read.get_concrete_function().graph
    names = {operation.type for operation in graph.get_operations()}
    functions = graph.as_graph_def().library.function
    names |= {node.op for function in functions for node in function.node_def}
    assert "ReadVariableOp" in names
    assert not [name for name in names if "Collective" in name or "Nccl" in name or name.startswith("AddN")]
    np.testing.assert_array_equal([value.numpy() for value in read()], [0.0, 0.0])
