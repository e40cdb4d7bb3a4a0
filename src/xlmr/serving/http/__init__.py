"""The HTTP door: bodies become questions, answers become bodies. Nothing here knows a model."""
