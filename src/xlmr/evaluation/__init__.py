"""A model earns its release, language by language."""
