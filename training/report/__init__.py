"""What a network is worth: quality, speed, tables, figures, cards."""
