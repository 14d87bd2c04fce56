"""Training slices: anatomy in any contrast, at any place, with every artefact, drawn at random."""
