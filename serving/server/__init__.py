"""The HTTP front end: the Open Inference Protocol, version 2, in JSON. Needs the extra `server`."""
