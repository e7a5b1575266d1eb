"""Keras -> weights, ONNX and SavedModel, with a card."""
