"""The verbs, typed. The only place where the parts are wired together."""
