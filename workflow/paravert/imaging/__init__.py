"""Reading DICOM and NIfTI files as checked stacks of images, and masks on the same voxel grid.

`convert` is the step. For DICOM, `dicom` uses in this order: `dicom_scan` (headers of all files),
`series` (the one axial series), `parallel_frames` and `frame_stack` (from frames to stacks),
`decoding` (pixels), `image_stack` (voxels, and warnings of each slice). `nifti` reads images and
masks in NIfTI files; `masks` finds the stack of each mask. The other modules serve these or later
steps.
"""
