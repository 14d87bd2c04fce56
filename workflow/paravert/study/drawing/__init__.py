"""One module per figure: `data` returns the table that is drawn, `draw` draws that table."""
