"""Protocols over HTTP."""
