"""Token ids become vectors, vectors become answers."""
