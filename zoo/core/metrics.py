"""What a log shows: means over all rows of all replicas."""

import keras

from zoo.core.replicas import ONLY_FIRST_REPLICA
from zoo.core.types import Tensor


@keras.saving.register_keras_serializable("zoo")
class GlobalMean(keras.metrics.Metric):
    """Mean of numbers that every replica has alike, since they were summed over the replicas before.

    `keras.metrics.Mean` keeps a sum a replica and adds them up whenever it is read: with several workers, two more
    collective operations a metric and step. Reading this one is local.
    """

    def __init__(self, name: str):
        super().__init__(name=name)
        self.total = self.add_variable((), "zeros", aggregation=ONLY_FIRST_REPLICA, name="total")
        self.count = self.add_variable((), "zeros", aggregation=ONLY_FIRST_REPLICA, name="count")

    def update_state(self, total: Tensor, count: Tensor) -> None:
        """Add the sum and the number of some values, both scalars."""
        self.total.assign_add(keras.ops.cast(total, self.dtype))
        self.count.assign_add(keras.ops.cast(count, self.dtype))

    def result(self) -> Tensor:
        """The mean so far; 0 before there is a value."""
        return keras.ops.divide_no_nan(self.total, self.count)
