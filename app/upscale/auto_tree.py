from app.upscale.tree import Split, Tree

TREE: Tree = Split("even", 0.5, "clean", "drawn")
