"""Layers that Keras lacks, or has in a form that breaks a contract of ours."""
