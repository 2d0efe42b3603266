"""Image files and their pixels: decoding, encoding, colour, depth, resampling. Knows no network and no HTTP."""
