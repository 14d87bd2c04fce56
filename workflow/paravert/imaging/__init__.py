"""From scanner files to checked volumes: DICOM series, stacks, NIfTI."""
