"""Language identification's types; the implementation is native/src/language_bindings.cpp."""

class LanguageFault(ValueError):
    """The file is damaged or holds another kind of model."""

class Identifier:
    """A classifier of fastText's. Safe to ask from several threads."""

    def __init__(self, file: bytes, kinds: bytes) -> None:
        """Reads a model.

        Args:
            file: the whole file.
            kinds: for each code point what it is in a word: 0 not in one, 1 a letter, 2 within a
                word but no letter, 3 a lone surrogate. Those not listed are 0.

        Raises:
            LanguageFault: damaged, or another kind of model.
            ValueError: a kind is not in 0..3.
        """

    def identify(self, texts: list[str]) -> list[tuple[str | None, float]]:
        """The likeliest label of each text and its probability, which rounding may lift above 1.

        The lock of the interpreter is released for many texts. None and 0 where nothing can be
        said: no letters, or a lone surrogate.
        """
