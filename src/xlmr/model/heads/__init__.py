"""Heads: the encoder's vectors become answers.

Everything below is pure: arrays, offsets and texts in, values out. No clock, thread, log or
setting is known here, so every head can be tested with a handful of numbers.
"""
