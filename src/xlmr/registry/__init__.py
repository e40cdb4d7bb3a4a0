"""A released model becomes an immutable, signed version; nothing goes live unproven."""
