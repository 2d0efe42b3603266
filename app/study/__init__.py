"""The blind comparison of the models: stimuli, ratings, mean opinion scores, and its routes."""
