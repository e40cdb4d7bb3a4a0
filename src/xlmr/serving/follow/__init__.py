"""A server follows a registry: what is named there is loaded, routed and counted here."""
