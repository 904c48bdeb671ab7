"""Real files in: raw k-space, projections, images and DICOM series, as measurements and volumes."""
