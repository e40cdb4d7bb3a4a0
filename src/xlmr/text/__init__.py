"""A string becomes token ids: tokenizer, windows, language.

Everything here is pure. Nothing in this package knows an event loop, a socket, a thread, a clock, a
log or a setting; what it needs is passed in, and the same text always gives the same answer. No
error raised here carries a piece of the text.
"""
