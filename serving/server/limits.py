"""What a server takes of one request."""

BODY_LIMIT = 16 * 2**20  # bytes
ROW_LIMIT = 256  # rows of a batch, or images

# A body that is too large is read on and dropped up to so many times its limit: a client that sends everything before
# it reads would not see the answer 413 if the connection were closed at once.
DRAIN_FACTOR = 4
