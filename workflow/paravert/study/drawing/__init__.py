"""The figures, a module each: one function returns the table that is drawn, another draws it."""
