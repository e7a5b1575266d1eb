"""What a server takes of one request."""

BODY_LIMIT = 16 * 2**20
ROW_LIMIT = 256
DRAINED = 4  # limits of a body that are read and dropped: a client still sending would not see the 413
