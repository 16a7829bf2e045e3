"""Versions on disk, and the base model that they belong to."""
