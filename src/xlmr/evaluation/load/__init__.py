"""How a server bears load that does not wait for it: arrivals, and what became of them."""
