"""A version goes live step by step, by a test that may be looked at any moment.

Everything in this package's core is pure: counts, a plan and a time go in, a decision comes out.
Who counts, who routes and who keeps the journal stands elsewhere and does what was decided.
"""
