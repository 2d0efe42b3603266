"""Pictures without a photograph in them, rendered large: drawings, pages of text, screenshots, pixel art."""
