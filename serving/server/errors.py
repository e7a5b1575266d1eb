"""Why a server did not answer a request that may be a good one; each message is one line for the client.

What is wrong with a request itself is an `InputError`, and what is wrong with a model's file a `ModelFileError`: see
`serving.session`.
"""


class UnknownModelError(LookupError):
    """There is no such model, or no such version of it; the message names those there are."""


class UnavailableError(RuntimeError):
    """The model is there but can't answer now: it does not open, or the server is about to stop."""


class QueueFullError(RuntimeError):
    """More waits for the model than the server takes; nothing of this request was run.

    Attributes: retry_after, seconds until what waits now should be done.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineError(TimeoutError):
    """The request's time was over before its answer; what had not been run by then was not run."""


class AbandonedError(RuntimeError):
    """Nobody waits for the answer any more; what had not been run by then was not run."""
