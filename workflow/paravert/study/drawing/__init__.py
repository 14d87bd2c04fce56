"""The figures: of each, one function returns the table that is drawn, and another draws it."""
