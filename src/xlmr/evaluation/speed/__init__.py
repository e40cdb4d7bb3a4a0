"""How fast the engine is: beside its peers and beside the machine's own ceiling, in one run."""
