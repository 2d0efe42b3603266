"""One image through the networks: planned, cut into tiles, enlarged, stitched and encoded as it is computed."""
