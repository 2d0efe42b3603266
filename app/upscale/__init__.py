"""One image through the networks: planned, cut into tiles, enlarged, stitched and encoded while it is computed."""
