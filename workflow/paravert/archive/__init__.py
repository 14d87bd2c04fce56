"""From an archive, a folder tree of DICOM or NIfTI images, to a subject sheet: command make_sheet."""
