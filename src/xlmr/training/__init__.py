"""Labelled examples become a model."""
