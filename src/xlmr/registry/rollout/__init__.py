"""A version goes live step by step, by a test that may be looked at any moment.

What decides is pure: counts, a plan and a time go in, a decision comes out. `board` keeps it with
its lines in the journal, `counts` adds up what servers saw, and `controller` leads through them.
"""
