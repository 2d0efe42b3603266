"""Work that outlives a connection: an engine keeps the jobs, an object store the pictures. Loaded where asked for."""
