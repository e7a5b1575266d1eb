"""Other programs' train steps of the same models, each in one file, written as their users write them.

A peer in PyTorch has a `TrainStep`: built from a preset's sizes, it holds `networks` by our names, and a call makes one
step on a batch and returns the losses. Tests give it our weights and compare outputs, losses and gradients.
"""
