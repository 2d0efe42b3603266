"""How ``model=auto`` was fitted: pictures whose kind is known, and a tree that tells them apart."""
