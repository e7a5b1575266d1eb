"""Protocols over gRPC."""
