"""The recipe: its schema, and how it is read."""
