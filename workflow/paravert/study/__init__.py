"""The cohort: sheet, tables, statistical inference, figures and report."""
