"""Personal data and secrets in a text become typed placeholders, in any script and any digits."""
