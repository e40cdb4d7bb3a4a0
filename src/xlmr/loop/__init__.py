"""Closing the loop: what to label next, when to train again, and what an incident was. Pure.

Plain values come in and decisions go out; whoever calls reads stores and carries decisions out.
"""
