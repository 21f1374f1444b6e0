"""Text for people: safe on a terminal, fitted to its width, numbers with units. Imports no other package of ours."""
