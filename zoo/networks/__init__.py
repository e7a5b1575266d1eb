"""Functions that build networks, each a functional `keras.Model` with named inputs and outputs."""
